"""The example of color transfer reads images of every kind."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("rich")
matplotlib = pytest.importorskip("matplotlib")

SCRIPT = Path(__file__).parents[2] / "examples" / "plot_color_transfer.py"
SHAPE = 12, 16
rng = np.random.default_rng(0)
RGB = rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
GRAY = RGB[..., 0]
ALPHA = rng.integers(0, 256, SHAPE, dtype=np.uint8)


def in_three(gray):
    return np.repeat(np.asarray(gray, dtype=float)[..., None], 3, axis=2)


def kinds():
    """Images, the format of their files, and the colors they show."""
    deep = (GRAY.astype(np.uint16) << 8) + 7
    share = ALPHA[..., None] / 255
    palette = Image.fromarray(RGB).quantize(16)
    see_through = palette.copy()
    see_through.info["transparency"] = 3
    first = np.asarray(palette.convert("RGB")) / 255
    hidden = np.asarray(palette) == 3
    return {
        "colors": (Image.fromarray(RGB), "png", RGB / 255),
        "colors with alpha": (
            Image.fromarray(np.dstack([RGB, ALPHA])),
            "png",
            share * RGB / 255 + 1 - share,
        ),
        "gray": (Image.fromarray(GRAY), "png", in_three(GRAY / 255)),
        "gray with alpha": (
            Image.fromarray(np.dstack([GRAY, ALPHA])),
            "png",
            share * in_three(GRAY / 255) + 1 - share,
        ),
        "gray of 16 bits": (Image.fromarray(deep), "png", in_three(deep / 65535)),
        "gray of 16 bits, tiff": (Image.fromarray(deep), "tiff", in_three(deep / 65535)),
        "gray of floats": (
            Image.fromarray((GRAY / 255).astype(np.float32)),
            "tiff",
            in_three(GRAY / 255),
        ),
        "black and white": (
            Image.fromarray(GRAY > 127),
            "png",
            in_three(GRAY > 127),
        ),
        "palette": (palette, "png", first),
        "transparent palette": (see_through, "png", np.where(hidden[..., None], 1.0, first)),
        "CMYK": (
            Image.fromarray(RGB).convert("CMYK"),
            "tiff",
            RGB / 255,
        ),
    }


KINDS = kinds()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the example in an empty folder, and returns its names."""
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        return runpy.run_path(str(SCRIPT))

    yield run
    matplotlib.pyplot.close("all")


@pytest.fixture(scope="module")
def read_image():
    """The function alone, without running the rest."""
    source = SCRIPT.read_text().partition("if len(sys.argv) == 3:")[0]
    names = {}
    exec(compile(source, str(SCRIPT), "exec"), names)
    return names["read_image"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_of_any_kind_has_the_colors_it_shows(kind, read_image, tmp_path):
    image, suffix, expected = KINDS[kind]
    path = tmp_path / f"image.{suffix}"
    image.save(path)
    found = read_image(path)
    assert found.shape == (*SHAPE, 3)
    np.testing.assert_allclose(found, expected, atol=1.1 / 255)


def test_a_turned_photograph_stands_upright(read_image, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(RGB).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_allclose(read_image(tmp_path / "turned.png"), np.rot90(RGB, -1) / 255)


@pytest.mark.filterwarnings("default")
def test_the_colors_of_one_image_flow_to_those_of_another(run):
    KINDS["gray"][0].save("gray.png")
    KINDS["colors"][0].save("colors.png")
    names = run("gray.png", "colors.png")
    assert names["result"].shape == (*SHAPE, 3)
    assert names["energies"][-1] < 0.1 * names["energies"][0]
    assert Path("color_transfer.png").is_file()
