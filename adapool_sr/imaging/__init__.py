"""Imaging: arithmetic on picture tensors: MATLAB's bicubic resize, PSNR and SSIM."""

from adapool_sr.imaging.metrics import luma, modcrop, psnr_y, ssim_y, to_uint8
from adapool_sr.imaging.resize import enlarge, imresize

__all__ = ["enlarge", "imresize", "luma", "modcrop", "psnr_y", "ssim_y", "to_uint8"]
