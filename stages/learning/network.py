"""The networks: images of sound in, probabilities of languages out.

`cnn5` is the network of the 2017 article that this project grew out of (192x192 log-mel images, 176 languages); its
variants test what the article says of its parts (docs/claims.md). `phonetic`, `bands` and `bands_deep` are ours.

Input: (batch, bands, columns, 1), values 0 to 255 as the resize stage stores them; row 0 is the lowest band.
Output: (batch, languages), probabilities in float32.

Everything is built from keras.ops, so that any Keras backend runs it.
"""

from __future__ import annotations

from typing import Any

from stages.learning.layers import AttentiveStatistics, BandNormalise, HalveByMax, Sounding
from stages.learning.runtime import accelerators, keras
from stages.learning.sounds import SOUNDS

layers = keras.layers
ops = keras.ops

FULL_SCALE = 255.0  # value of the loudest pixel
BATCH_NORM_MOMENTUM = 0.9  # Keras's 0.99 lags behind in runs of a few hundred steps
ARTICLE_FILTERS = (16, 32, 64, 128, 256)
TIME_FILTERS = 192
DEEP_DILATIONS = (1, 2, 4, 1, 2, 4)  # each frame sees 15 columns before and after it, three quarters of a second
SOUND_FILTERS = 128
SOUND_ROWS = 48  # what the bands are averaged to: fine enough for formants, too coarse for most voices' harmonics


def _cnn5(shape: tuple[int, int | None], n_languages: int, dropout: float, variant: str) -> Any:
    """The article's network: five times (Conv 3x3, ELU, MaxPool 2x2), Dense 512 ELU, dropout, softmax.

    The activation comes after the pooling here: ELU and ReLU are monotonic, so the function is the same, with a
    quarter of the work.

    variant : "", or a part that is another one: "average" or "attention", pooling over all places of the last map in
        place of the dense layer; "relu", batch normalisation and ReLU after the convolutions and the dense layer
    """
    if shape[1] is None:
        raise ValueError("cnn5 flattens its image, so the number of columns must be fixed")
    rectified = variant == "relu"
    images = keras.Input((*shape, 1), name="images")
    x = layers.Rescaling(1 / FULL_SCALE, name="to_unit_range")(images)
    for number, filters in enumerate(ARTICLE_FILTERS, start=1):
        if rectified:
            x = _conv(x, filters, (3, 3), f"conv{number}")
        else:
            x = layers.Conv2D(filters, 3, padding="same", name=f"conv{number}")(x)
        pool = HalveByMax if keras.backend.backend() == "jax" and accelerators() else layers.MaxPooling2D
        x = pool(name=f"pool{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x) if rectified else layers.ELU(name=f"elu{number}")(x)
    if variant == "average":
        x = layers.GlobalAveragePooling2D(name="pool")(x)
    elif variant == "attention":
        places = layers.Reshape((-1, ARTICLE_FILTERS[-1]), name="places")(x)
        x = AttentiveStatistics(name="pool")([places, ops.ones_like(places[..., :1])])
    elif rectified:
        x = layers.Dense(512, use_bias=False, name="dense")(layers.Flatten(name="flatten")(x))
        x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name="dense_norm")(x)
        x = layers.ReLU(name="dense_relu")(x)
    else:
        x = layers.Dense(512, activation="elu", name="dense")(layers.Flatten(name="flatten")(x))
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Dense(n_languages, name="logits")(x)
    name = f"cnn5_{variant}" if variant else "cnn5"
    return keras.Model(images, layers.Softmax(dtype="float32", name="probabilities")(x), name=name)


def _conv(x: Any, filters: int, kernel: tuple[int, int], name: str, strides: tuple[int, int] = (1, 1)) -> Any:
    x = layers.Conv2D(filters, kernel, strides=strides, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"{name}_norm")(x)


def _residual(x: Any, filters: int, name: str, strides: tuple[int, int]) -> Any:
    """Two 3x3 convolutions, the first one with strides, and a way around them."""
    around = layers.AveragePooling2D(strides, padding="same", name=f"{name}_around_pool")(x)
    around = _conv(around, filters, (1, 1), f"{name}_around")
    y = layers.ReLU(name=f"{name}_a_relu")(_conv(x, filters, (3, 3), f"{name}_a", strides))
    y = _conv(y, filters, (3, 3), f"{name}_b")
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([around, y]))


def _time_block(x: Any, dilation: int, name: str) -> Any:
    """A convolution over time, one over channels, channels weighted by squeeze and excitation, a way around.

    Squeeze and excitation: Hu et al. 2018, arXiv:1709.01507.
    """
    filters = x.shape[-1]
    y = layers.Conv2D(
        filters, (1, 3), dilation_rate=(1, dilation), padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    y = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"{name}_norm")(y)
    y = _conv(layers.ReLU(name=f"{name}_relu")(y), filters, (1, 1), f"{name}_point")
    weight = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(y)
    weight = layers.Dense(filters // 8, activation="relu", name=f"{name}_squeeze")(weight)
    weight = layers.Dense(filters, activation="sigmoid", name=f"{name}_excite")(weight)
    y = layers.Multiply(name=f"{name}_scale")([y, weight])
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([x, y]))


def _plain_time_block(x: Any, dilation: int, name: str) -> Any:
    """A convolution over time and a way around it."""
    y = layers.Conv2D(
        x.shape[-1], (1, 3), dilation_rate=(1, dilation), padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    y = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"{name}_norm")(y)
    return layers.Add(name=f"{name}_add")([x, layers.ReLU(name=f"{name}_relu")(y)])


def _collapse(x: Any, filters: int) -> Any:
    """All rows into one: (batch, rows, columns, channels) -> (batch, 1, columns, filters)."""
    x = layers.Conv2D(filters, (x.shape[1], 1), use_bias=False, name="collapse_conv")(x)
    x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name="collapse_norm")(x)
    return layers.ReLU(name="collapse_relu")(x)


def _answer(frames: Any, images: Any, n_languages: int, dropout: float) -> Any:
    """Statistics over the frames that sound, and from them the probabilities of the languages."""
    x = AttentiveStatistics(name="pool")([frames, Sounding(dtype="float32", name="sounding")(images)])
    x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name="pool_norm")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Dense(n_languages, name="logits")(x)
    return layers.Softmax(dtype="float32", name="probabilities")(x)


def _bands(shape: tuple[int, int | None], n_languages: int, dropout: float, deep: bool = False) -> Any:
    """Ours: normalised bands, wide steps in frequency, small ones in time, attentive statistics over time.

    deep : more and longer-sighted steps over time, for corpora of tens of thousands of clips.

    A column of 52 ms is about a phoneme long, so time is halved once only; 192 bands are many more than tell sounds
    apart, and a stride of 8 over them costs little (most of the time of a network like this goes into its first maps).
    """
    images = keras.Input((*shape, 1), name="images")
    x = BandNormalise(dtype="float32", name="band_normalise")(images)
    x = layers.ReLU(name="stem_relu")(_conv(x, 32, (11, 5), "stem", (8, 1)))  # (batch, bands / 8, columns, 32)
    x = _residual(x, 64, "stage1", (2, 2))  # (batch, bands / 16, columns / 2, 64)
    x = _residual(x, 96, "stage2", (2, 1))  # (batch, bands / 32, columns / 2, 96)
    x = _collapse(x, TIME_FILTERS)  # (batch, 1, columns / 2, TIME_FILTERS)
    block, dilations = (_time_block, DEEP_DILATIONS) if deep else (_plain_time_block, (1, 2))
    for number, dilation in enumerate(dilations, start=1):
        x = block(x, dilation, f"time{number}")
    x = layers.Reshape((-1, TIME_FILTERS), name="frames")(x)  # (batch, columns / 2, TIME_FILTERS)
    return keras.Model(images, _answer(x, images, n_languages, dropout), name="bands_deep" if deep else "bands")


def _phonetic(shape: tuple[int, int | None], n_languages: int, dropout: float) -> Any:
    """Ours: which sound is said when, and from the order of the sounds, and nothing else, which language.

    What is said of the sounds is squeezed through the probabilities of the sounds that there are ("sounds", whose
    logits training compares with what was said, where a corpus tells it), so little of the voice comes through.
    As in phonotactic recognisers: Tang et al. 2017, arXiv:1705.03151. Columns should be 20 to 30 ms wide.
    """
    images = keras.Input((*shape, 1), name="images")
    rows = max(1, round(shape[0] / SOUND_ROWS))
    x = layers.AveragePooling2D((rows, 1), name="fewer_bands")(images)
    x = BandNormalise(dtype="float32", name="band_normalise")(x)
    x = layers.ReLU(name="stem_relu")(_conv(x, 32, (5, 7), "stem", (2, 2)))  # (batch, rows / 2, columns / 2, 32)
    x = layers.ReLU(name="stage1_relu")(_conv(x, 64, (3, 3), "stage1", (2, 1)))  # (batch, rows / 4, columns / 2, 64)
    x = _collapse(x, SOUND_FILTERS)  # (batch, 1, columns / 2, SOUND_FILTERS)
    for number, dilation in enumerate(DEEP_DILATIONS, start=1):
        x = _time_block(x, dilation, f"time{number}")
    x = layers.Dropout(0.1, name="sounds_dropout")(layers.Reshape((-1, SOUND_FILTERS), name="frames")(x))
    x = layers.Dense(len(SOUNDS), dtype="float32", name="sounds")(x)  # (batch, columns / 2, sounds)
    x = layers.Softmax(dtype="float32", name="sound_probabilities")(x)
    x = layers.Dropout(0.1, name="order_dropout")(layers.Reshape((1, -1, len(SOUNDS)), name="order_frames")(x))
    for number, (columns, dilation) in enumerate(((5, 1), (3, 1), (3, 2)), start=1):
        x = layers.Conv2D(
            SOUND_FILTERS, (1, columns), dilation_rate=(1, dilation), padding="same", use_bias=False,
            name=f"order{number}_conv",
        )(x)  # fmt: skip
        x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"order{number}_norm")(x)
        x = layers.ReLU(name=f"order{number}_relu")(x)
    x = layers.Reshape((-1, SOUND_FILTERS), name="order")(x)  # (batch, columns / 2, SOUND_FILTERS)
    return keras.Model(images, _answer(x, images, n_languages, dropout), name="phonetic")


def build_network(architecture: str, n_bands: int, n_columns: int | None, n_languages: int, dropout: float) -> Any:
    """An untrained network.

    n_columns : width of the image; None lets a network that pools over time take any width.
    """
    shape = (n_bands, n_columns)
    family, _, variant = architecture.partition("_")
    if family == "cnn5":
        return _cnn5(shape, n_languages, dropout, variant)
    if family == "phonetic":
        return _phonetic(shape, n_languages, dropout)
    return _bands(shape, n_languages, dropout, deep=architecture == "bands_deep")
