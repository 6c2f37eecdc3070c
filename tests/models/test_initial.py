"""ImageNet weights as a beginning: the networks' first answers in closed form."""

import re
from pathlib import Path

import pytest
import torch

from vpipe.errors import UsageError
from vpipe.models import load_model
from vpipe.models.importer.initial import CONVENTIONS, _renamed, import_initial, inflated_taps, initial_state
from vpipe.models.registry import build
from vpipe.recognition.recognizer import Recognizer


def image_network(path: Path, bottleneck: bool = True) -> torch.nn.Module:
    """A small ResNet, saved with torchvision's names; ours over one picture."""
    torch.manual_seed(1)
    hyper = {"classes": 7, "segments": 1, "blocks": [1, 2, 1, 1], "width": 16, "bottleneck": bottleneck}
    network = build("tsn-resnet", hyper).eval()
    theirs = {}
    for key, value in network.state_dict().items():
        key = key.removeprefix("backbone.").replace("downsample.conv.", "downsample.0.")
        key = key.replace("downsample.bn.", "downsample.1.")
        theirs[re.sub(r"conv(\d)\.(conv|bn)\.", lambda m: f"{m[2]}{m[1]}.", key)] = value
    torch.save(theirs, path)
    return network


def test_a_still_clip_gives_the_picture_networks_features(tmp_path: Path) -> None:
    """Inflated kernels are means over time: away from the ends a clip of one picture is that picture."""
    pictures = image_network(tmp_path / "resnet.pth")
    image = _renamed(torch.load(tmp_path / "resnet.pth"))
    hyper = {"classes": 7, "width": 16, "taps": inflated_taps([1, 2, 1, 1]), "stem": 5}
    inflated = build("resnet3d", hyper).eval()
    state, taken, unused = initial_state(image, inflated.state_dict())
    inflated.load_state_dict(state)
    assert taken == len(state)
    assert unused == ()
    picture = torch.randn(1, 1, 3, 64, 64)
    with torch.inference_mode():
        still = inflated.maps(picture.expand(-1, 16, -1, -1, -1))  # type: ignore[operator]
        one = pictures.maps(picture)  # type: ignore[operator]
    # The stem and four blocks see 2 + 4 frames to each side; zeros stand beyond the ends.
    assert torch.allclose(still[:, 8], one[:, 0], atol=1e-5)
    assert not torch.allclose(still[:, 0], one[:, 0], atol=1e-2)


def test_segments_of_one_picture(tmp_path: Path) -> None:
    pictures = image_network(tmp_path / "resnet.pth")
    import_initial(tmp_path / "resnet.pth", tmp_path / "tsn.safetensors", "tsn-resnet", segments=3)
    network = load_model(tmp_path / "tsn.safetensors").streams[0].network
    picture = torch.randn(1, 1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(network(picture.expand(-1, 3, -1, -1, -1)), pictures(picture), atol=1e-5)


def test_the_first_layer_over_flow_and_differences(tmp_path: Path) -> None:
    """Ten equal channels answer like three equal colours, ten thirds as strongly; twelve, four times."""
    pictures = image_network(tmp_path / "resnet.pth")
    grey = torch.randn(1, 1, 64, 64)
    wanted = pictures.backbone.conv1.conv(grey.expand(-1, 3, -1, -1))  # type: ignore[union-attr,operator]
    import_initial(tmp_path / "resnet.pth", tmp_path / "flow.safetensors", "tsm", modality="flow")
    stream = load_model(tmp_path / "flow.safetensors").streams[0]
    assert (stream.modality, stream.frames) == ("flow", 40)
    found = stream.network.backbone.conv1.conv(grey.expand(-1, 10, -1, -1))
    assert torch.allclose(found, wanted * 10 / 3, atol=1e-4)
    import_initial(tmp_path / "resnet.pth", tmp_path / "tdn.safetensors", "tdn")
    tdn = load_model(tmp_path / "tdn.safetensors").streams[0].network
    assert torch.allclose(tdn.backbone.short_conv.conv(grey.expand(-1, 12, -1, -1)), wanted * 4, atol=1e-4)
    assert torch.equal(
        tdn.backbone.short_layer[0].conv2.conv.weight, tdn.backbone.layer1[0].conv2.conv.weight
    )


@pytest.mark.parametrize("architecture", sorted(CONVENTIONS))
def test_every_residual_architecture_takes_the_whole_image_network(tmp_path: Path, architecture: str) -> None:
    image_network(tmp_path / "resnet.pth")
    begun = import_initial(tmp_path / "resnet.pth", tmp_path / "a.safetensors", architecture)
    left = set(begun.unused)
    assert left <= {"fc.weight"}  # SlowFast's is wider
    model = load_model(tmp_path / "a.safetensors")
    with pytest.raises(UsageError, match="vpipe train") as caught:
        Recognizer(model)
    assert caught.value.code == "only_initial"


def test_what_has_nothing_to_take_says_so(tmp_path: Path) -> None:
    image_network(tmp_path / "resnet.pth", bottleneck=False)
    for architecture, options, message in (
        ("i3d", {}, "choose one of"),
        ("tanet", {}, "ResNet-50 or a deeper"),
        ("resnet3d", {"modality": "flow"}, "sees frames"),
    ):
        with pytest.raises(UsageError, match=message):
            import_initial(tmp_path / "resnet.pth", tmp_path / "a.safetensors", architecture, **options)
    torch.save({"a.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UsageError, match="not an image ResNet"):
        import_initial(tmp_path / "other.pth", tmp_path / "a.safetensors", "tsm")
