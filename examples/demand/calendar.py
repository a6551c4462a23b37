"""What the clock and the calendar say, as columns beside the demand."""

from __future__ import annotations

import csv
import math
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from carousel_exporter.files import replacing

DATA: Final = Path(__file__).parent / "data" / "demand.csv"
#: Half hours in a day, which is also how far ahead is forecast, and in a week.
DAY: Final = 48
WEEK: Final = 7 * DAY
COLUMNS: Final = ("day_sin", "day_cos", "week_sin", "week_cos", "weekend", "weekend_ahead")
_AHEAD = timedelta(days=1)
_SATURDAY = 5


def write_with_calendar(path: Path) -> None:
    """Write the data set with what is known of each half hour, and of the one a day later."""
    with DATA.open(newline="") as source, replacing(path) as temporary:
        rows = csv.reader(source)
        header = next(rows)
        with temporary.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*header, *COLUMNS])
            for time, demand in rows:
                told = describe(datetime.fromisoformat(time))
                writer.writerow([time, demand, *(f"{value:.6g}" for value in told)])


def describe(time: datetime) -> tuple[float, ...]:
    """Return a half hour's place on the circles of day and week, and whether work rests."""
    day = 2 * math.pi * (time.hour * 2 + time.minute / 30) / DAY
    week = 2 * math.pi * time.weekday() / 7 + day / 7
    rests = (float(when.weekday() >= _SATURDAY) for when in (time, time + _AHEAD))
    return (math.sin(day), math.cos(day), math.sin(week), math.cos(week), *rests)
