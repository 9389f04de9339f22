"""What a fitted model is between two sessions: a file, or a part of the AnnData that it integrated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sklearn.utils.validation import check_is_fitted

from scbatchnorm._data.annotation import to_memory
from scbatchnorm._fitted import FittedAutoencoder
from scbatchnorm._persistence import restore as _restore
from scbatchnorm._persistence.file import load_model, save_model

if TYPE_CHECKING:
    import os
    from typing import Self

    from anndata import AnnData


class PersistentAutoencoder(FittedAutoencoder):
    """The part of `BatchNormAutoencoder` that writes it and reads it."""

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the fitted model to one file, from which `load` gives it back bit for bit.

        The file is in the safetensors format: arrays, and a JSON header with parameters, names of features and batches, history,
        versions and a checksum. It holds no expression, but components of up to 16 000 cells of the fit, which
        `tl.map_query` places new cells among. Whatever happens while it is written, an existing file is whole, the old one or the new one.

        Parameters
        ----------
        path
            Where to write; any name, `.safetensors` is usual. Of a link, the file that it points at.
        overwrite
            Whether to replace a file that exists.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            There is nothing to save yet.
        FileExistsError
            The file exists, and `overwrite` is not set.
        OSError
            The folder does not exist or cannot be written to, the path is a folder, a device or a pipe, or the disk is full.

        Examples
        --------
        >>> import numpy as np, scbatchnorm as sbn
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> X = np.random.default_rng(0).gamma(1.0, size=(60, 10))
        >>> model = sbn.BatchNormAutoencoder(min_steps=20).fit(X, np.arange(60) % 2)
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "model.safetensors")
        ...     model.save(path)
        ...     again = sbn.BatchNormAutoencoder.load(path)
        >>> again.fingerprint() == model.fingerprint()
        True
        """
        check_is_fitted(self)
        save_model(self, path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The model that `save` wrote. No code of the file is run, wherever it comes from.

        Names, sizes, types, values and checksum are checked before anything is used.

        Parameters
        ----------
        path
            File of this machine.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ModelFileError
            It is no model, damaged, incomplete, or of a format that this version does not read; the message says which.

        Examples
        --------
        See `save`.
        """
        return load_model(cls, path)

    @classmethod
    def from_anndata(cls, adata: AnnData, *, key: str = "scbatchnorm") -> Self:
        """The model that `pp.integrate` left in `adata.uns[key]`, bit for bit; no file is read and no code run.

        Parameters
        ----------
        adata
            Annotated data, integrated.
        key
            The `key_added` of the integration.

        Raises
        ------
        KeyError
            `adata.uns` has no such key.
        ValueError
            What is there was not written by `pp.integrate`, or is not complete.
        """
        if key not in adata.uns:
            available = ", ".join(map(str, adata.uns)) or "none"
            msg = f"key={key!r} is not a key of adata.uns; keys: {available}. Run pp.integrate first."
            raise KeyError(msg)
        return _restore.from_record(cls, to_memory(adata.uns[key]), where=f"adata.uns[{key!r}]")
