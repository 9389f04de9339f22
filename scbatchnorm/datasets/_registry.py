"""The public data sets: where their files are, the checksums of these files, and what is in them.

A file is named by its checksum: an address may answer what it likes, other bytes are refused. Addresses of one entry
serve the same file. To add a set, see CONTRIBUTING.md.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dataset:
    """One file, and what its columns mean."""

    urls: tuple[str, ...]
    checksum: str
    """`"sha256:..."`, or `"md5:..."` where no other is known: it recognises a broken file, not a forged one."""
    size: int
    """Bytes."""
    batch: str
    cell_type: str
    cells: int
    genes: int
    batches: int
    cell_types: int
    X: str
    """Scale of the expression in `X`."""
    counts: str
    """Where counts are, and whether they are whole numbers."""
    about: str
    source: str
    licence: str
    citation: str


_SCIB = "https://doi.org/10.6084/m9.figshare.12420968"
_SCIB_PAPER = "Luecken et al., Nature Methods 19, 41-50 (2022), https://doi.org/10.1038/s41592-021-01336-8"


def _figshare(file: int) -> tuple[str, ...]:
    """The addresses that serve programs; figshare.com/ndownloader asks for a browser."""
    return f"https://api.figshare.com/v2/file/download/{file}", f"https://ndownloader.figshare.com/files/{file}"


DATASETS = {
    "kang_2018": Dataset(
        urls=("https://exampledata.scverse.org/pertpy/kang_2018.h5ad", *_figshare(34464122)),
        checksum="sha256:e6a5adac64dcdeb36eaba27db49b63e0c64bb0ed4a64c6705971506b41c39830",
        size=38_356_412,
        batch="replicate",
        cell_type="cell_type",
        cells=24_673,
        genes=15_706,
        batches=8,
        cell_types=8,
        X="counts",
        counts="X, whole numbers",
        about="blood cells of 8 donors, before and after interferon beta: obs['label'], which is biology and no batch",
        source="GEO GSE96583, as prepared for pertpy",
        licence="not stated with the file",
        citation="Kang et al., Nature Biotechnology 36, 89-94 (2018), https://doi.org/10.1038/nbt.4042",
    ),
    "scib_immune": Dataset(
        urls=_figshare(25717328),
        checksum="md5:482a6a3117432d41a46effd8376b8ee0",
        size=2_064_748_344,
        batch="batch",
        cell_type="final_annotation",
        cells=33_506,
        genes=12_303,
        batches=10,
        cell_types=16,
        X="log-normalised",
        counts="layers['counts'], whole numbers except in batch Villani",
        about="human blood and bone marrow, 10 donors of 5 studies",
        source=_SCIB,
        licence="CC BY 4.0",
        citation=_SCIB_PAPER,
    ),
    "scib_lung": Dataset(
        urls=_figshare(24539942),
        checksum="md5:aac0832c3e3413ae279343f5de02a2c6",
        size=1_019_664_664,
        batch="batch",
        cell_type="cell_type",
        cells=32_472,
        genes=15_148,
        batches=16,
        cell_types=17,
        X="log-normalised",
        counts="layers['counts'], whole numbers only in the Drop-seq batches B1 to B4",
        about="human lung, 16 donors, 2 protocols and 2 places: batches and biology are partly confounded",
        source=_SCIB,
        licence="CC BY 4.0",
        citation=_SCIB_PAPER,
    ),
    "scib_pancreas": Dataset(
        urls=_figshare(24539828),
        checksum="sha256:97e6dfd65553e4d10aa3ef5d904362970a75c677c31d70fabc9234191a09db8c",
        size=315_955_785,
        batch="tech",
        cell_type="celltype",
        cells=16_382,
        genes=19_093,
        batches=9,
        cell_types=14,
        X="log-normalised",
        counts="layers['counts'], not whole numbers in four batches",
        about="human pancreatic islets, 9 batches of 6 technologies: UMI against read counts",
        source=_SCIB,
        licence="CC BY 4.0",
        citation=_SCIB_PAPER,
    ),
}
