"""Makes the picture of the README, where examples/plot_color_transfer.py has been run:

python doc/images/color_transfer.py
"""

from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_image

WIDTH, GAP = 400, 8  # pixels

source, target = (Image.fromarray(load_sample_image(n)) for n in ("china.jpg", "flower.jpg"))
moved = Image.open("color_transfer_result.png").convert("RGB")

height = round(WIDTH * source.height / source.width)
sheet = Image.new("RGB", (3 * WIDTH + 2 * GAP, height), "white")
for i, image in enumerate((source, moved, target)):
    sheet.paste(image.resize((WIDTH, height), Image.Resampling.LANCZOS), (i * (WIDTH + GAP), 0))
sheet.save(Path(__file__).with_suffix(".jpg"), quality=88, optimize=True)
