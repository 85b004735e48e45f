"""The networks: the article's to the parameter, ours for what its parts promise."""

from __future__ import annotations

import numpy as np
import pytest

from stages.learning import layers, network
from stages.learning.runtime import keras, policy_name


def test_cnn5_is_the_articles_network() -> None:
    model = network.build_network("cnn5", 192, 192, 176, dropout=0.5)
    assert model.count_params() == 5_201_712
    assert all(weight.trainable for weight in model.weights), "no batch normalisation, nothing but trained weights"
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [16, 32, 64, 128, 256]
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    assert {layer.padding for layer in convolutions} == {"same"}
    assert model.get_layer("flatten").output.shape[1:] == (6 * 6 * 256,)
    assert model.get_layer("dense").units == 512
    assert model.get_layer("dropout").rate == 0.5
    assert model.output_shape == (None, 176)


def test_elu_after_pooling_is_elu_before_pooling() -> None:
    x = np.random.default_rng(0).normal(size=(2, 8, 6, 3)).astype("float32")
    pool, elu = keras.layers.MaxPooling2D(2), keras.layers.ELU()
    before, after = (keras.ops.convert_to_numpy(y) for y in (pool(elu(x)), elu(pool(x))))
    assert (before == after).all()


CNN5 = ("cnn5", "cnn5_average", "cnn5_attention", "cnn5_relu")


@pytest.mark.parametrize("architecture", CNN5)
def test_cnn5_cannot_take_any_width(architecture: str) -> None:
    with pytest.raises(ValueError, match="columns must be fixed"):
        network.build_network(architecture, 48, None, 3, dropout=0.5)


def test_variants_of_cnn5_differ_from_it_in_the_named_part_only() -> None:
    models = {name: network.build_network(name, 192, 192, 176, dropout=0.5) for name in CNN5}
    outputs, dense = 176 * 513, 6 * 6 * 256 * 512 + 512
    convolutions = models["cnn5"].count_params() - outputs - dense
    assert models["cnn5_average"].count_params() == convolutions + 176 * 257
    attention = 256 * 64 + 64 + 64 + 1
    assert models["cnn5_attention"].count_params() == convolutions + attention + outputs  # mean and deviation: 512
    channels = 16 + 32 + 64 + 128 + 256 + 512
    assert models["cnn5_relu"].count_params() == models["cnn5"].count_params() + 3 * channels  # 4 numbers for a bias
    used = {name: {type(layer).__name__ for layer in model.layers} for name, model in models.items()}
    assert used["cnn5"] - used["cnn5_relu"] == {"ELU"}
    assert used["cnn5_relu"] - used["cnn5"] == {"BatchNormalization", "ReLU"}
    assert not any(getattr(layer, "activation", None) is keras.activations.elu for layer in models["cnn5_relu"].layers)


@pytest.mark.parametrize("architecture", [*CNN5, "bands", "bands_deep"])
def test_gives_probabilities(architecture: str) -> None:
    model = network.build_network(architecture, 64, 64, 5, dropout=0.5)
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 1)).astype("float32")
    images[2] = 0  # silence
    out = model.predict(images, verbose=0)
    assert out.shape == (3, 5)
    assert np.isfinite(out).all()
    assert out.sum(axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("architecture", "most"), [("bands", 1_000_000), ("bands_deep", 2_000_000)])
def test_bands_takes_any_width_with_the_same_weights(architecture: str, most: int) -> None:
    any_width = network.build_network(architecture, 48, None, 4, dropout=0.3)
    fixed = network.build_network(architecture, 48, 40, 4, dropout=0.3)
    fixed.set_weights(any_width.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 40, 1)).astype("float32")
    assert any_width.predict(images, verbose=0) == pytest.approx(fixed.predict(images, verbose=0), abs=1e-5)
    assert any_width.count_params() < most


def test_band_normalise_takes_an_equaliser_away_and_leaves_padding_alone() -> None:
    rng = np.random.default_rng(0)
    layer = layers.BandNormalise(dtype="float32")
    images = rng.integers(60, 160, (2, 24, 30, 1)).astype("float32")
    images[:, :, 20:] = 0
    equalised = images.copy()
    equalised[:, :, :20] += rng.uniform(-40, 40, (2, 24, 1, 1)).astype("float32")
    out, same = (keras.ops.convert_to_numpy(layer(x)) for x in (images, equalised))
    assert same == pytest.approx(out, abs=1e-4)
    assert (out[:, :, 20:] == 0).all()
    assert out[:, :, :20].mean(axis=2) == pytest.approx(0, abs=1e-4)
    assert out[:, :, :20].std() == pytest.approx(1, abs=0.02)


def test_attentive_statistics_are_mean_and_deviation_of_what_sounds_when_all_columns_weigh_the_same() -> None:
    layer = layers.AttentiveStatistics(8)
    frames = np.random.default_rng(0).normal(size=(2, 50, 6)).astype("float32")
    sounding = np.ones((2, 50, 1), "float32")
    sounding[1, 30:] = 0
    layer([frames, sounding])
    layer.score.set_weights([np.zeros_like(weight) for weight in layer.score.get_weights()])
    out = keras.ops.convert_to_numpy(layer([frames, sounding]))
    for i, length in enumerate((50, 30)):
        assert out[i, :6] == pytest.approx(frames[i, :length].mean(axis=0), abs=1e-5)
        assert out[i, 6:] == pytest.approx(frames[i, :length].std(axis=0), abs=1e-4)


def test_sounding_frames_are_those_of_two_columns_of_which_one_is_not_black() -> None:
    images = np.zeros((1, 8, 7, 1), np.uint8)
    images[0, 3, 2] = images[0, 5, 6] = 9
    out = keras.ops.convert_to_numpy(layers.Sounding(dtype="float32")(images))
    assert out[0, :, 0].tolist() == [0, 1, 0, 1]


def test_halving_by_max_is_max_pooling() -> None:
    images = np.random.default_rng(0).normal(size=(2, 9, 12, 3)).astype("float32")
    pooled = keras.ops.convert_to_numpy(keras.layers.MaxPooling2D()(images))
    layer = layers.HalveByMax()
    assert (keras.ops.convert_to_numpy(layer(images)) == pooled).all()
    assert layer.compute_output_shape(images.shape) == pooled.shape


@pytest.mark.parametrize(
    ("vendor", "flags", "expected"),
    [
        ("AuthenticAMD", "fpu avx2 avx512f", "float32"),
        ("AuthenticAMD", "fpu avx512f avx512_bf16", "mixed_bfloat16"),
        ("GenuineIntel", "fpu avx512f avx512_bf16", "float32"),
        ("GenuineIntel", "fpu avx512f avx512_bf16 amx_bf16", "mixed_bfloat16"),
    ],
)
def test_precision_follows_the_hardware(tmp_path, vendor, flags, expected) -> None:  # type: ignore[no-untyped-def]
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("".join(f"processor\t: {n}\nvendor_id\t: {vendor}\nflags\t\t: {flags}\n\n" for n in (0, 1)))
    assert policy_name("auto", cpuinfo) == expected
    assert policy_name("float32", cpuinfo) == "float32"
    assert policy_name("bfloat16", cpuinfo) == "mixed_bfloat16"


def test_precision_where_nothing_is_told_of_the_processor(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert policy_name("auto", tmp_path / "none") == "float32"
