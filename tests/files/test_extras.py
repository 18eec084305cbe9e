"""Optional dependencies are asked for before they are imported."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

import adapool_sr.data
import adapool_sr.training
from adapool_sr.files import extras
from adapool_sr.files.errors import MissingExtraError


def test_what_is_there_passes() -> None:
    extras.require("anything", "train", "json", "sys")


def test_what_is_absent_is_one_sentence_with_the_command() -> None:
    with pytest.raises(MissingExtraError) as caught:
        extras.require("adapool-sr fit", "train", "json", "no_such_module")
    assert str(caught.value) == (
        "adapool-sr fit: needs the extra 'train'; run: pip install 'adapool-sr[train]'"
    )


@pytest.mark.parametrize(
    ("module", "name"), [(adapool_sr.training, "SRModule"), (adapool_sr.data, "SRDataModule")]
)
def test_python_names_that_need_lightning_say_so(
    module: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda n: None if n == "lightning" else find(n))
    with pytest.raises(MissingExtraError, match=r"pip install 'adapool-sr\[train\]'"):
        getattr(module, name)
