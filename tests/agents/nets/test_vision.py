import pytest

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")

from flowbench.agents.nets.vision import ImageEncoder, SpatialSoftmax, VisionConfig  # noqa: E402
from flowbench.errors import BadValue, DataError, UnknownName  # noqa: E402


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34", "resnet50"])
def test_it_is_torchvisions_network_without_its_classifier(backbone):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, backbone)(weights=None).eval()
    theirs.fc = torch.nn.Identity()
    ours = ImageEncoder(VisionConfig(backbone)).eval()
    assert parameters(ours) == parameters(theirs)
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs((images - 0.5) / 0.5))


def test_group_norm_has_as_many_parameters_and_does_not_look_at_other_images():
    encoder = ImageEncoder(VisionConfig(norm="group", width_factor=0.25))
    assert parameters(encoder) == parameters(ImageEncoder(VisionConfig(width_factor=0.25)))
    images = torch.rand(4, 3, 48, 64)
    together = encoder.train()(images)
    torch.testing.assert_close(together[:1], encoder(images[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "config, width",
    [
        (VisionConfig(), 512),
        (VisionConfig(stages=3), 256),
        (VisionConfig(width_factor=0.25), 128),
        (VisionConfig(backbone="resnet50", width_factor=0.25), 512),
        (VisionConfig(norm="group", pool="spatial-softmax", stages=3, width_factor=0.5), 256),
        (VisionConfig(pool="spatial-softmax", width_factor=0.25, output=40), 40),
    ],
)
def test_width_is_the_length_of_a_vector(config, width):
    encoder = ImageEncoder(config).eval()
    assert encoder.width == width
    assert encoder(torch.rand(2, 3, 64, 48)).shape == (2, width)


def test_the_encoder_of_avdcs_diffusion_policy_has_512_outputs_from_1024_coordinates():
    encoder = ImageEncoder(VisionConfig(norm="group", pool="spatial-softmax", output=512))
    assert encoder.project.weight.shape == (512, 1024)


def test_spatial_softmax_finds_where_a_channel_is_active():
    maps = torch.zeros(1, 2, 5, 9)
    maps[0, 0, 0, 8] = maps[0, 1, 2, 4] = 100
    torch.testing.assert_close(SpatialSoftmax()(maps), torch.tensor([[1.0, 0.0, -1.0, 0.0]]))


@pytest.mark.parametrize("prefix", ["module.convnet.", "convnet.", ""])
def test_r3m_weights_load_from_its_file_whatever_stands_before_their_names(tmp_path, prefix):
    source = torchvision.models.resnet18(weights=None)
    source.fc = torch.nn.Identity()
    state = {prefix + name: value for name, value in source.state_dict().items()}
    state |= {"module.lang_rew.pred.0.weight": torch.zeros(3)}
    torch.save({"r3m": state, "global_step": 1}, tmp_path / "model.pt")
    encoder = ImageEncoder(VisionConfig(weights="r3m", weights_path=str(tmp_path / "model.pt")))
    encoder.load_pretrained()
    torch.testing.assert_close(encoder.layer4[1].conv2.weight, source.layer4[1].conv2.weight)
    assert encoder.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_imagenet_weights_load_from_a_local_file(tmp_path):
    source = torchvision.models.resnet18(weights=None)
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    encoder = ImageEncoder(VisionConfig(weights="imagenet", weights_path=str(tmp_path / "resnet18.pth"), output=10))
    encoder.load_pretrained()
    torch.testing.assert_close(encoder.conv1.weight, source.conv1.weight)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "w.pth")
    config = VisionConfig("resnet50", weights="imagenet", weights_path=str(tmp_path / "w.pth"))
    with pytest.raises(DataError, match=r"not those of a resnet50. Set backbone to the network of the file"):
        ImageEncoder(config).load_pretrained()


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"r3m": Evil()}, tmp_path / "model.pt")
    config = VisionConfig(weights="r3m", weights_path=str(tmp_path / "model.pt"))
    with pytest.raises(DataError, match="is no file of tensors .* can run code, and is refused"):
        ImageEncoder(config).load_pretrained()
    assert not (tmp_path / "ran").exists()


def test_a_file_of_something_else_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "model.pt")
    config = VisionConfig(weights="r3m", weights_path=str(tmp_path / "model.pt"))
    with pytest.raises(DataError, match=r"holds no R3M network: no entry ends in 'convnet.conv1.weight'"):
        ImageEncoder(config).load_pretrained()


def test_r3m_without_a_file_says_where_to_get_it():
    with pytest.raises(DataError, match=r"R3M publishes its resnet18 on Google Drive .* name it with weights_path"):
        ImageEncoder(VisionConfig(weights="r3m")).load_pretrained()


def test_imagenet_weights_offline_say_which_file_to_bring(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def no_network(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    with pytest.raises(DataError, match=r"could not be downloaded from https://.*resnet18.*name it with weights_path"):
        ImageEncoder(VisionConfig(weights="imagenet")).load_pretrained()
    assert "Downloading https://" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, error, sentence",
    [
        ({"backbone": "resnet81"}, UnknownName, "has no backbone 'resnet81'. Did you mean 'resnet18'"),
        ({"pool": "softmax"}, UnknownName, "Available: average, spatial-softmax|Did you mean 'spatial-softmax'"),
        ({"stages": 5}, BadValue, "stages of an image encoder is 5; it is 1 to 4"),
        ({"width_factor": 0.3}, BadValue, "it is a multiple of 0.25"),
        ({"weights": "imagenet", "norm": "group"}, BadValue, "Use width_factor=1 and norm='batch'"),
    ],
)
def test_a_config_that_cannot_be_built_says_what_can(options, error, sentence):
    with pytest.raises(error, match=sentence):
        VisionConfig(**options)
