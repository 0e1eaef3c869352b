import pytest

torch = pytest.importorskip("torch")

from flowbench.agents.nets.augment import (  # noqa: E402
    LIBERO_AUGMENTATION,
    AugmentConfig,
    augment,
    centre_crop,
    colour_jitter,
    random_crop,
    random_shift,
)
from flowbench.errors import BadValue  # noqa: E402


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def positions(batch, height, width, *between):
    """Images whose three channels are the row, the column, and the sample."""
    rows = torch.arange(height).float()[:, None].expand(height, width)
    columns = torch.arange(width).float().expand(height, width)
    image = torch.stack([rows, columns, torch.zeros(height, width)])
    images = image.expand(batch, *between, 3, height, width).clone()
    images[..., 2, :, :] = torch.arange(batch).float().view(-1, *[1] * (len(between) + 2))
    return images


def test_the_same_generator_gives_the_same_images_and_another_gives_others():
    images = torch.rand(8, 2, 3, 24, 32)
    first = augment(images, LIBERO_AUGMENTATION, generator(1))
    assert torch.equal(first, augment(images, LIBERO_AUGMENTATION, generator(1)))
    assert not torch.equal(first, augment(images, LIBERO_AUGMENTATION, generator(2)))
    assert first.shape == images.shape
    assert first.min() >= 0 and first.max() <= 1


def test_no_augmentation_changes_nothing():
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(augment(images, AugmentConfig(), generator()), images)


def test_a_random_crop_is_a_window_of_its_own_image():
    images = positions(16, 20, 30)
    cut = random_crop(images, 12, 16, generator())
    assert cut.shape == (16, 3, 12, 16)
    assert torch.equal(cut[:, 2, 0, 0], torch.arange(16).float())
    assert torch.equal(cut[:, 0, :, 0] - cut[:, 0, :1, 0], torch.arange(12).float().expand(16, 12))
    assert torch.equal(cut[:, 1, 0, :] - cut[:, 1, 0, :1], torch.arange(16).float().expand(16, 16))
    corners = {(int(c[0, 0, 0]), int(c[1, 0, 0])) for c in cut}
    assert len(corners) > 8
    assert all(0 <= row <= 8 and 0 <= column <= 14 for row, column in corners)


def test_history_and_cameras_of_a_sample_are_cut_alike():
    cut = random_crop(positions(8, 20, 20, 2, 3), 8, 8, generator())
    assert cut.shape == (8, 2, 3, 3, 8, 8)
    assert torch.equal(cut[:, :1, :1].expand_as(cut), cut)
    assert len({float(c) for c in cut[:, 0, 0, 0, 0, 0]}) > 1


def test_a_shift_repeats_the_border():
    images = positions(128, 10, 10)
    moved = random_shift(images, 4, generator())
    assert moved.shape == images.shape
    assert moved[:, 0].min() == 0 and moved[:, 0].max() == 9
    assert {int(row) for row in moved[:, 0, 5, 5]} == set(range(1, 10))


def test_a_centre_crop_is_the_middle():
    assert centre_crop(positions(1, 240, 320), 128, 128)[0, :2, 0, 0].tolist() == [56, 96]


def test_brightness_contrast_saturation_and_hue_keep_what_they_should():
    images = torch.rand(6, 2, 3, 16, 16) * 0.4 + 0.3
    luma = torch.tensor([0.299, 0.587, 0.114])
    grey = torch.einsum("c,btchw->bthw", luma, images)
    brighter = colour_jitter(images, AugmentConfig(brightness=0.3), generator())
    ratio = brighter / images
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1, :1].expand_as(ratio))
    contrasted = colour_jitter(images, AugmentConfig(contrast=0.3), generator())
    torch.testing.assert_close(
        torch.einsum("c,btchw->bthw", luma, contrasted).mean(dim=(1, 2, 3)), grey.mean(dim=(1, 2, 3))
    )
    for config in (AugmentConfig(saturation=0.3), AugmentConfig(hue=0.1)):
        changed = colour_jitter(images, config, generator())
        assert not torch.allclose(changed, images)
        torch.testing.assert_close(torch.einsum("c,btchw->bthw", luma, changed), grey, rtol=1e-3, atol=1e-3)


def test_a_grey_image_stays_grey():
    images = torch.rand(4, 1, 8, 8).expand(4, 3, 8, 8)
    changed = colour_jitter(images, LIBERO_AUGMENTATION, generator())
    torch.testing.assert_close(changed, changed[:, :1].expand_as(changed), rtol=1e-3, atol=1e-3)


def test_a_crop_that_does_not_fit_names_both_sizes():
    with pytest.raises(BadValue, match=r"A crop of 128x128 \(width x height\) does not fit in an image of 64x48"):
        centre_crop(torch.zeros(1, 3, 48, 64), 128, 128)


def test_negative_amounts_are_refused():
    with pytest.raises(BadValue, match="hue of image augmentation is -0.1; it is at least 0"):
        AugmentConfig(hue=-0.1)
