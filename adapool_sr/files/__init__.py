"""Files: errors, whole-or-nothing writing, the journal of a run. Knows nothing of pictures."""

from __future__ import annotations

from adapool_sr.files.errors import AdaPoolError
from adapool_sr.files.writing import check_writable, whole, write_whole

__all__ = ["AdaPoolError", "check_writable", "whole", "write_whole"]
