"""Where operators live that few models use: their modules are imported when a graph first names one."""

from __future__ import annotations

from functools import cache
from importlib import import_module

__all__ = ["CATALOG", "load", "load_all"]

CATALOG: tuple[tuple[str, str, str], ...] = (
    ("attention", "", "Attention"),
    ("linear_attention", "", "LinearAttention"),
    ("flex_attention", "ai.onnx.preview", "FlexAttention"),
    ("rotary", "", "RotaryEmbedding"),
    ("control", "", "If Loop Scan"),
    ("optional", "", "Optional OptionalGetElement OptionalHasElement"),
    ("recurrent", "", "GRU LSTM RNN"),
    ("sequence", "", "ConcatFromSequence SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert"),
    ("sequence", "", "SequenceLength SequenceMap SplitToSequence"),
    ("strings", "", "RegexFullMatch StringConcat StringNormalizer StringSplit"),
    ("tfidf", "", "TfIdfVectorizer"),
    ("elementwise", "", "Mean Mod SwiGLU"),
    ("compare", "", "And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or Xor"),
    ("bitwise", "", "BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor"),
    ("norms", "", "GroupNormalization InstanceNormalization LRN LayerNormalization LpNormalization"),
    ("norms", "", "MeanVarianceNormalization RMSNormalization"),
    ("losses", "", "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss"),
    ("sampling", "", "Bernoulli Dropout Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike"),
    ("quantize", "", "QuantizeLinear DequantizeLinear DynamicQuantizeLinear"),
    ("transposed", "", "ConvTranspose Col2Im MaxUnpool"),
    ("nhwc_transposed", "nhwc", "ConvTranspose"),
    ("conv_variants", "", "DeformConv CausalConvWithState"),
    ("roi", "", "MaxRoiPool RoiAlign"),
    ("resize", "", "Resize"),
    ("grid", "", "AffineGrid GridSample"),
    ("spectrum", "", "BlackmanWindow DFT HammingWindow HannWindow MelWeightMatrix STFT"),
    ("image_decoder", "", "ImageDecoder"),
    ("quantized_linear", "", "MatMulInteger ConvInteger QLinearConv QLinearMatMul"),
    ("blocks", "", "DepthToSpace SpaceToDepth"),
    ("cast", "", "BitCast Cast CastLike"),
    ("cumulative", "", "CumProd CumSum"),
    ("einsum", "", "Einsum"),
    ("fused_attention", "fused", "Attention"),
    ("gather", "", "Gather GatherElements GatherND"),
    ("generate", "", "EyeLike OneHot Range"),
    ("masks", "", "Compress NonZero Where"),
    ("matrix", "", "Det Trilu"),
    ("nms", "", "NonMaxSuppression"),
    ("order", "", "ArgMax ArgMin Hardmax TopK Unique"),
    ("parts", "", "CenterCropPad ReverseSequence Split Tile"),
    ("scatter", "", "ScatterElements ScatterND TensorScatter"),
    ("ml.features", "ai.onnx.ml", "ArrayFeatureExtractor Binarizer FeatureVectorizer Imputer Normalizer OneHotEncoder"),
    ("ml.features", "ai.onnx.ml", "Scaler"),
    ("ml.labels", "ai.onnx.ml", "CategoryMapper LabelEncoder"),
    ("ml.linear", "ai.onnx.ml", "LinearClassifier LinearRegressor"),
    ("ml.maps", "ai.onnx.ml", "CastMap DictVectorizer ZipMap"),
    ("ml.svm", "ai.onnx.ml", "SVMClassifier SVMRegressor"),
    ("ml.tree_ensemble", "ai.onnx.ml", "TreeEnsemble"),
    ("ml.trees", "ai.onnx.ml", "TreeEnsembleClassifier TreeEnsembleRegressor"),
    ("microsoft.attention", "com.microsoft", "Attention MultiHeadAttention"),
    ("microsoft.dynamic_lstm", "com.microsoft", "DynamicQuantizeLSTM"),
    ("microsoft.fused", "com.microsoft", "FusedMatMul FusedConv FusedGemm NhwcMaxPool"),
    ("microsoft.gelu", "com.microsoft", "Gelu BiasGelu FastGelu QuickGelu"),
    ("microsoft.group_query", "com.microsoft", "GroupQueryAttention"),
    ("microsoft.nbits", "com.microsoft", "MatMulNBits"),
    (
        "microsoft.normalization",
        "com.microsoft",
        "SkipLayerNormalization SkipSimplifiedLayerNormalization SimplifiedLayerNormalization EmbedLayerNormalization",
    ),
    ("microsoft.normalization", "", "SimplifiedLayerNormalization"),
    ("microsoft.quantize", "com.microsoft", "QuantizeLinear DequantizeLinear"),
    (
        "microsoft.quantized_elementwise",
        "com.microsoft",
        "QLinearAdd QLinearMul QLinearSigmoid QLinearLeakyRelu QLinearSoftmax QLinearConcat QLinearWhere",
    ),
    (
        "microsoft.quantized_linear",
        "com.microsoft",
        "QGemm MatMulIntegerToFloat DynamicQuantizeMatMul QLinearConv",
    ),
    (
        "microsoft.quantized_pool",
        "com.microsoft",
        "QLinearGlobalAveragePool QLinearAveragePool QLinearReduceMean",
    ),
    ("microsoft.rotary", "com.microsoft", "RotaryEmbedding"),
)
"""Module of this package, domain, names of its operators."""


@cache
def _homes() -> dict[tuple[str, str], str]:
    return {(domain, name): module for module, domain, names in CATALOG for name in names.split()}


def load(domain: str, name: str) -> bool:
    """Import the module of an operator. Returns whether there is one."""
    module = _homes().get((domain, name))
    if module is None:
        return False
    import_module(f".{module}", __package__)
    return True


def load_all() -> None:
    """Import every module, so that the registry is complete."""
    for module, _, _ in CATALOG:
        import_module(f".{module}", __package__)
