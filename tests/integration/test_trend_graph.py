"""img/graph.png shows the trend of the sample data, as `make graph` draws it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.testing.compare import compare_images
from servers import running_postgres

from etl.local.demo import demo_settings
from tools.trend_graph import PICTURE, draw

if TYPE_CHECKING:
    from conftest import Demo


def test_trend_graph_is_up_to_date(demo: Demo, tmp_path: Path) -> None:
    done = demo.run()
    assert done.returncode == 0, done.stderr
    server = running_postgres(demo.folder / ".local")
    assert server is not None
    drawn, committed = tmp_path / "drawn.png", tmp_path / "committed.png"
    draw(demo_settings(server, "http://127.0.0.1:9"), drawn)
    committed.write_bytes(PICTURE.read_bytes())
    assert compare_images(str(committed), str(drawn), tol=1.0) is None, "run `make graph`"
