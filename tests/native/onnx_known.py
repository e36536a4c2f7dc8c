"""What of ONNX's own backend suite does not pass, and why. docs/onnx.md says the same in words."""

from __future__ import annotations

_HALF = "expects every step of Softmax to be rounded to the narrow type; ours is rounded once"
_CORNERS = "takes a length that is no whole number for that of the output; the text and onnxruntime take the output's"

DRAWN = tuple(f"test_bernoulli{kind}{form}" for kind in ("", "_double", "_seed") for form in ("", "_expanded"))
"""Cases that expect the numbers of NumPy's generator, and without a seed can give them by chance."""

KNOWN: dict[str, str] = {
    "test_attention_4d_causal_fp16_expanded": _HALF,
    "test_loop16_seq_none": "ONNX's runner of the case asks for the length of an array without dimensions",
    "test_resize_downsample_scales_cubic_align_corners": _CORNERS,
    "test_resize_downsample_scales_linear_align_corners": _CORNERS,
}
"""Name of a case, without its device -> the reason. One that passes fails the tests."""
