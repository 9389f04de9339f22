"""Whether batches need a correction and allow one: arrays in, verdict, reasons and tables out."""
