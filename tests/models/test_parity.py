"""Our networks against the references' logits, through files as the references write them."""

import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vpipe.errors import UsageError
from vpipe.models.importer.checkpoint import Checkpoint, read_checkpoint
from vpipe.models.importer.labels import find_labels, packaged_lists
from vpipe.models.importer.layout import Choices
from vpipe.models.importer.parity import check_fixture, filled, made_input
from vpipe.models.importer.recognise import recognise
from vpipe.models.layers import ConvBN
from vpipe.models.registry import build
from vpipe.models.resnet3d import SLOW_TAPS

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.json"))
QUICK = ("tea_r50_16f", "tdn_r50_8f", "slowfast_r50_8x8_mmaction2")  # of the ordinary suite


def test_the_rule_gives_the_same_numbers_here() -> None:
    """The self-check of the fixtures' README."""
    weight = filled("conv1.weight", (64, 3, 7, 7), "float32", 1.0).ravel()
    assert weight[:2] == pytest.approx([-0.06683667, -0.077751786])
    variance = filled("bn1.running_var", (64,), "float32", 1.0)
    assert variance[:2] == pytest.approx([0.80135465, 1.1007897])
    picture = made_input((1, 24, 64, 64), 16, "input0").ravel()
    assert picture[:2] == pytest.approx([-1.3612235, -0.7837809])
    assert picture.dtype == np.float32


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, id=p.stem, marks=() if p.stem in QUICK else pytest.mark.slow) for p in FIXTURES],
)
def test_logits_are_the_references(path: Path) -> None:
    found = check_fixture(path)
    # C3D's wide layers over whole maps sum so much that the order, which differs by processor, shows.
    assert found.difference <= (5e-5 if found.architecture == "c3d" else 2e-5), found


@pytest.mark.parametrize(
    "wrong",
    [
        {"state_dict": [["stem.0.weight", [1 << 50], "float32"]]},
        {"inputs": [{"name": "input0", "shape": [1, 3, 8, 64, 64], "cell": 0}]},
        {"checkpoint": {"container": ["a"], "prefix": ""}},
    ],
    ids=["size", "cell", "container"],
)
def test_absurd_fixtures_are_refused(tmp_path: Path, wrong: dict) -> None:
    fixture = {
        "name": "a/b", "arch": {}, "fill": {"conv_gain": 1}, "checkpoint": {"container": None, "prefix": ""},
        "state_dict": [], "inputs": [], "outputs": {"logits": [0.0], "shape": [1, 1]},
    }  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(fixture | wrong))
    with pytest.raises(UsageError, match=r"a\.json: not a parity fixture") as caught:
        check_fixture(tmp_path / "a.json")
    assert caught.value.code == "bad_fixture"
    (tmp_path / "a.json").write_text(json.dumps(fixture))  # its name is no file's
    with pytest.raises(UsageError, match="it holds no weights"):
        check_fixture(tmp_path / "a.json")


@pytest.mark.slow
def test_every_fixture(shared_dir: Path) -> None:
    differences = {
        path.stem: check_fixture(path).difference
        for path in sorted((shared_dir / "fixtures" / "models").glob("*.json"))
    }
    assert max(differences.values()) <= 1e-4, differences


def checkpoint(name: str, drop: str = "") -> Checkpoint:
    """The keys and shapes of a fixture; the weights are zeros."""
    fixture = json.loads((Path(__file__).parent / "fixtures" / f"{name}.json").read_text())
    tensors = {
        key: torch.zeros(shape, dtype=getattr(torch, dtype))
        for key, shape, dtype in fixture["state_dict"]
        if not drop or drop not in key
    }
    return Checkpoint(Path(f"{name}.pth"), tensors, ())


def test_missing_and_unexpected_keys_are_named() -> None:
    with pytest.raises(UsageError, match=r"missing: backbone\.layer3\.2\.conv2\.bn\.bias$") as caught:
        recognise(checkpoint("tsm_r50_8f", drop="layer3.2.bn2.bias"), Choices())
    assert caught.value.code == "missing_keys"
    more = checkpoint("tsm_r50_8f")
    more.tensors["base_model.layer9.weight"] = torch.zeros(1)
    with pytest.raises(UsageError, match=r"backbone\.layer9\.weight") as caught:
        recognise(more, Choices())
    assert caught.value.code == "unexpected_keys"
    wrong = checkpoint("tsm_r50_8f")
    wrong.tensors["base_model.layer1.0.conv2.weight"] = torch.zeros(64, 64, 5, 5)
    with pytest.raises(UsageError, match=r"\(64, 64, 5, 5\), not \(64, 64, 3, 3\)"):
        recognise(wrong, Choices())


@pytest.mark.parametrize("shape", [(), (64,)])
@pytest.mark.parametrize("key", ["base_model.conv1.weight", "new_fc.weight"])
def test_kernels_without_dimensions_are_refused(key: str, shape: tuple[int, ...]) -> None:
    wrong = checkpoint("tsm_r50_8f")
    wrong.tensors[key] = torch.zeros(shape)
    with pytest.raises(UsageError, match=r"neither a kernel nor a matrix") as caught:
        recognise(wrong, Choices())
    assert caught.value.code == "bad_shapes"


def test_three_dimensional_networks_with_flat_kernels_are_refused() -> None:
    wrong = checkpoint("slowfast_r50_8x8_mmaction2")
    wrong.tensors["backbone.slow_path.conv1.conv.weight"] = torch.zeros(64, 3)
    with pytest.raises(UsageError, match="too few dimensions") as caught:
        recognise(wrong, Choices())
    assert caught.value.code == "bad_shapes"


def test_every_floating_type_becomes_float32(tmp_path: Path) -> None:
    numbers = torch.tensor([0.5, -2.0])
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn):
        save_file({"a": numbers.to(dtype)}, tmp_path / "a.safetensors")
        assert torch.equal(read_checkpoint(tmp_path / "a.safetensors").tensors["a"], numbers)
    save_file({"a": torch.tensor([1e300], dtype=torch.float64)}, tmp_path / "a.safetensors")
    with pytest.raises(UsageError, match="not finite"):
        read_checkpoint(tmp_path / "a.safetensors")


def test_weights_that_are_whole_numbers_are_refused() -> None:
    whole = checkpoint("tsm_r50_8f")
    whole.tensors["base_model.layer1.0.conv2.weight"] = torch.zeros(64, 64, 3, 3, dtype=torch.int64)
    with pytest.raises(UsageError, match=r"layer1\.0\.conv2\.conv\.weight int64$") as caught:
        recognise(whole, Choices())
    assert caught.value.code == "bad_types"


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}},
        {
            "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
            "b": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        },
        {"a": {"dtype": "F32", "shape": [1 << 31, 1 << 31, 1 << 31], "data_offsets": [0, 16]}},
    ],
    ids=["beyond", "short", "negative", "type", "backwards", "overlapping", "overflow"],
)
def test_safetensors_whose_headers_lie(tmp_path: Path, header: dict) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    with pytest.raises(UsageError, match=r"a\.safetensors: not a whole safetensors file") as caught:
        read_checkpoint(tmp_path / "a.safetensors")
    assert caught.value.code == "bad_checkpoint"
    for length in (1 << 62, len(text) + 1000):
        (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", length) + text + bytes(16))
        with pytest.raises(UsageError, match="not a whole safetensors file"):
            read_checkpoint(tmp_path / "a.safetensors")


def test_dead_weight_is_named_and_dropped() -> None:
    notes = recognise(checkpoint("tdn_r50_8f"), Choices()).notes
    assert any("base_model.conv1_temp.weight" in note for note in notes)


def test_old_files_without_batch_counters() -> None:
    mapped = recognise(checkpoint("tsm_r50_8f", drop="num_batches_tracked"), Choices())
    assert any("num_batches_tracked" in note for note in mapped.notes)
    assert int(mapped.state["backbone.conv1.bn.num_batches_tracked"]) == 0


def test_what_the_keys_do_not_tell() -> None:
    """TDN's mixing by the number of segments; TANet's segments are in its weights."""
    assert recognise(checkpoint("tdn_r50_8f"), Choices()).hyper["alpha"] == 0.5
    assert recognise(checkpoint("tdn_r50_8f"), Choices(segments=16)).hyper["alpha"] == 0.75
    assert recognise(checkpoint("tdn_r50_8f"), Choices(alpha=0.3)).hyper["alpha"] == 0.3
    assert recognise(checkpoint("tanet_r50_16f"), Choices()).hyper["segments"] == 16
    with pytest.raises(UsageError, match="weights are for 16"):
        recognise(checkpoint("tanet_r50_16f"), Choices(segments=8))


def test_foreign_keys_and_wrong_architecture() -> None:
    with pytest.raises(UsageError, match="no layout"):
        recognise(Checkpoint(Path("a.pth"), {"a.weight": torch.zeros(1)}, ()), Choices())
    with pytest.raises(UsageError, match=r"no layout of tdn; leave --arch out"):
        recognise(checkpoint("tsm_r50_8f"), Choices(), "tdn")
    with pytest.raises(UsageError, match="importable are"):
        recognise(checkpoint("tsm_r50_8f"), Choices(), "tsp")


def test_wrappers_round_the_keys(tmp_path: Path) -> None:
    plain = {"backbone.conv1.weight": torch.ones(2), "cls_head.fc_cls.weight": torch.ones(3)}
    for prefix in ("module.", "model.", "module.model."):
        for container in ("model_state", "state_dict"):
            torch.save({container: {prefix + k: v for k, v in plain.items()}}, tmp_path / "a.pth")
            assert list(read_checkpoint(tmp_path / "a.pth").tensors) == list(plain)


@pytest.mark.parametrize("wrapper", ["", "module."])
def test_vgg_whose_features_alone_were_in_data_parallel(wrapper: str) -> None:
    with torch.device("meta"):
        network = build("vgg16", {"classes": 11, "channels": 3, "width": 8})
    theirs = {
        re.sub(r"^backbone\.", f"features.{wrapper}", key)
        .replace("fc6.", "classifier.0.")
        .replace("fc7.", "classifier.3.")
        .replace("fc.", "fc_action."): torch.zeros(1).expand(value.shape)
        for key, value in network.state_dict().items()
    }
    mapped = recognise(Checkpoint(Path("a.pth"), theirs, ()), Choices())
    assert set(mapped.state) == set(network.state_dict())


@pytest.mark.parametrize("name", ["tsm_r50_8f", "tanet_r50_16f", "tea_r50_16f", "tdn_r50_8f", "stm_r50_8f"])
@pytest.mark.parametrize("head", ["base_model.fc", "base_model.last_linear", "new_fc"])
def test_heads_inside_and_outside_of_the_base_model(name: str, head: str) -> None:
    original = checkpoint(name)
    theirs = {
        re.sub(r"^(base_model\.)?(new_fc|fc)\.", head + ".", key): value
        for key, value in original.tensors.items()
    }
    if name == "stm_r50_8f":
        theirs = {key if key.startswith(head) else f"base_model.{key}": one for key, one in theirs.items()}
    for wrapper in ("", "recognizer.", "a.b."):
        wrapped = {wrapper + key: value for key, value in theirs.items()}
        mapped = recognise(Checkpoint(Path("a.pth"), wrapped, ()), Choices())
        assert mapped.hyper == recognise(original, Choices()).hyper
        assert any("prefix 'recognizer.'" in note for note in mapped.notes) == (wrapper == "recognizer.")


def test_mmactions_c2d_has_the_names_of_its_tsn() -> None:
    """2-D kernels over frames; time is pooled by two after the first stage, pictures without a margin."""
    original = checkpoint("tsn_r50_mmaction2")
    assert recognise(original, Choices()).layout.architecture == "tsn-resnet"
    mapped = recognise(original, Choices(), "resnet3d")
    assert mapped.layout.name.startswith("C2D")
    assert mapped.state["backbone.conv1.conv.weight"].shape == (64, 3, 1, 7, 7)
    small = {"classes": 3, "width": 8, "taps": [[[1, 1]]] * 4, "halve": True}
    clip = torch.randn(2, 4, 3, 62, 62, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    network = build("resnet3d", small | {"pool_margin": False}).eval()
    assert network.maps(clip).shape == (2, 2, 256, 2, 2)
    x = network.backbone.conv1(clip.transpose(1, 2))  # (N, C, T, 31, 31)
    pooled = torch.nn.functional.max_pool2d(x.transpose(1, 2).flatten(0, 1), 3, 2)
    torch.testing.assert_close(network.backbone.maxpool(x).transpose(1, 2).flatten(0, 1), pooled)


def test_folding_changes_nothing_but_the_rounding() -> None:
    torch.manual_seed(0)
    network = build("tea", {"classes": 5, "segments": 4, "blocks": [1, 1, 1, 1], "width": 32}).eval()
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.1, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.01, 0.1)
    clip = torch.randn(1, 4, 3, 64, 64)
    with torch.inference_mode():
        before = network(clip)
        for module in network.modules():
            if isinstance(module, ConvBN):
                module.fold()
        after = network(clip)
    assert not torch.equal(before, after)
    assert torch.allclose(before, after, atol=1e-4)


def mmaction_key(key: str) -> str:
    """mmaction2's name of a weight of the original TSM or TANet."""
    key = key.replace("base_model.", "backbone.").replace("new_fc.", "cls_head.fc_cls.")
    key = re.sub(r"layer(\d)\.(\d+)\.net\.", r"layer\1.\2.block.", key)
    key = re.sub(r"conv(\d)\.(net\.)?weight", r"conv\1.conv.\2weight", key)
    key = re.sub(r"bn(\d)\.", r"conv\1.bn.", key)
    return key.replace("downsample.0.", "downsample.conv.").replace("downsample.1.", "downsample.bn.")


@pytest.mark.parametrize("name", ["tsm_r50_8f", "tanet_r50_16f"])
def test_mmactions_twins(name: str) -> None:
    original = checkpoint(name)
    theirs = {mmaction_key(key): value for key, value in original.tensors.items()}
    twin = recognise(Checkpoint(Path("twin.pth"), theirs, ()), Choices())
    mapped = recognise(original, Choices())
    assert twin.layout.name.endswith("open-mmlab/mmaction2")
    assert twin.hyper == mapped.hyper
    assert twin.state.keys() == mapped.state.keys()


def test_resnet_101_shifts_every_second_block() -> None:
    with torch.device("meta"):
        hyper = {"classes": 5, "blocks": [3, 4, 23, 3], "every": 2, "width": 8}
        ours = build("tsm", hyper).state_dict()
    theirs = {}
    for key, value in ours.items():
        key = key.replace("backbone.", "base_model.").replace("fc.", "new_fc.")
        key = re.sub(r"(layer\d\.\d*[02468])\.conv1\.conv\.", r"\1.conv1.net.", key)
        key = re.sub(r"conv(\d)\.conv\.", r"conv\1.", key)
        key = re.sub(r"conv(\d)\.bn\.", r"bn\1.", key)
        key = key.replace("downsample.conv.", "downsample.0.").replace("downsample.bn.", "downsample.1.")
        theirs[key] = value
    mapped = recognise(Checkpoint(Path("r101.pth"), theirs, ()), Choices())
    assert (mapped.hyper["blocks"], mapped.hyper["every"]) == ([3, 4, 23, 3], 2)
    odd = {key.replace("layer3.2.conv1.net", "layer3.2.conv1"): value for key, value in theirs.items()}
    with pytest.raises(UsageError, match="neither all nor every second"):
        recognise(Checkpoint(Path("odd.pth"), odd, ()), Choices())


@pytest.mark.parametrize(
    ("classes", "layout", "first", "last"),
    [
        (400, "TSM, mit-han-lab", "abseiling", "zumba"),
        (101, "two-stream, jeffreyyihuang", "ApplyEyeMakeup", "YoYo"),
        (51, "TSN, yjxiong", "brush_hair", "wave"),
        (
            174,
            "TDN, MCG-NJU/TDN",
            "Approaching something with your camera",
            "Wiping something off of something",
        ),
        (200, "TSN, open-mmlab/mmaction2", "Applying sunscreen", "Playing badminton"),
    ],
)
def test_label_lists_by_class_count(classes: int, layout: str, first: str, last: str) -> None:
    labels = find_labels(None, classes, layout)
    assert (len(labels), labels[0], labels[-1]) == (classes, first, last)


def test_labels_that_cannot_be_guessed_are_asked_for() -> None:
    for classes, layout in ((11, "TSM"), (200, "TSM"), (174, "TSM, open-mmlab/mmaction2")):
        with pytest.raises(UsageError, match="--labels"):
            find_labels(None, classes, layout)
    assert len(find_labels("thumos14", 20, "TSM")) == 20
    with pytest.raises(UsageError, match="has 20 labels"):
        find_labels("thumos14", 21, "TSM")
    assert packaged_lists() == [
        "activitynet",
        "hmdb51",
        "kinetics400",
        "something",
        "something-v1",
        "thumos14",
        "ucf101",
    ]


@pytest.mark.parametrize("norm", ["norm", "bn"])
def test_pyslowfasts_non_local_blocks_of_both_namings(norm: str) -> None:
    """Its batch norm is `bn` in checkpoints of before 2020."""
    taps = [[[1, 1]], [[1, 1]], [[3, 1]], [[3, 1]]]
    with torch.device("meta"):
        hyper = {"classes": 5, "width": 8, "taps": taps, "non_local": [[], [0], [], []]}
        ours = build("resnet3d", hyper).state_dict()
    theirs = {}
    for key, value in ours.items():
        key = key.replace("backbone.conv1.", "s1.pathway0_stem.").replace("fc.", "head.projection.")
        key = re.sub(r"backbone\.layer(\d)\.", lambda m: f"s{int(m[1]) + 1}.pathway0_res", key)
        key = re.sub(r"res0\.after\.(g|phi|theta)\.", r"nonlocal0.conv_\1.", key)
        key = key.replace("res0.after.out.conv.", "nonlocal0.conv_out.")
        key = key.replace("res0.after.out.bn.", f"nonlocal0.{norm}.")
        key = re.sub(r"\.conv(\d)\.(conv|bn)", lambda m: f".branch2.{'xabc'[int(m[1])]}_{m[2]}", key)
        key = re.sub(r"\.downsample\.(conv|bn)", r".branch1_\1", key)
        theirs[re.sub(r"(branch2\.[abc]|branch1)_conv", r"\1", key)] = value
    mapped = recognise(Checkpoint(Path("a.pyth"), theirs, ()), Choices())
    assert mapped.hyper["non_local"] == [[], [0], [], []]
    assert mapped.state.keys() == ours.keys()


def test_networks_over_differences_are_refused_by_name() -> None:
    """TSN's RGBDiff: five differences of RGB frames are 15 channels."""
    tensors = dict(checkpoint("tsm_r50_8f").tensors)
    tensors["base_model.conv1.weight"] = torch.zeros(64, 15, 7, 7)
    with pytest.raises(UsageError, match=r"15 channels.*\(RGBDiff\) are not supported") as caught:
        recognise(Checkpoint(Path("diff.pth"), tensors, ()), Choices())
    assert caught.value.code == "unknown_layout"


def test_pyslowfasts_single_path_networks() -> None:
    """Slow keeps its frames; I3D and C2D halve them, which the taps tell."""
    for stem, taps, halve in ((1, SLOW_TAPS, False), (5, SLOW_TAPS, True), (1, (((1, 1),) * 2,) * 4, True)):
        with torch.device("meta"):
            hyper = {"classes": 5, "width": 8, "stem": stem, "taps": [list(stage) for stage in taps]}
            ours = build("resnet3d", hyper).state_dict()
        theirs = {}
        for key, value in ours.items():
            key = key.replace("backbone.conv1.", "s1.pathway0_stem.").replace("fc.", "head.projection.")
            key = re.sub(r"backbone\.layer(\d)\.", lambda m: f"s{int(m[1]) + 1}.pathway0_res", key)
            key = re.sub(r"\.conv(\d)\.(conv|bn)", lambda m: f".branch2.{'xabc'[int(m[1])]}_{m[2]}", key)
            key = re.sub(r"\.downsample\.(conv|bn)", r".branch1_\1", key)
            theirs[re.sub(r"(branch2\.[abc]|branch1)_conv", r"\1", key)] = value
        mapped = recognise(Checkpoint(Path("a.pyth"), theirs, ()), Choices())
        assert (mapped.layout.architecture, mapped.hyper["halve"]) == ("resnet3d", halve)
