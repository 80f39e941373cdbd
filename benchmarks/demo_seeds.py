"""The demo's exact match over several seeds: `python -m benchmarks.demo_seeds --seeds 0 1 2`.

Each seed has training data and parameters of its own; all are judged by the same 10,000 dates,
whose strings none of them has seen.
"""

import argparse
import statistics

from rich.console import Console
from rich.table import Table

from encodax.demo.run import EVALUATION_SIZE, STEPS, TRAIN_SIZE, draw, read, train_reader
from encodax.inference.predictors import TokenClassifier


def measure(seed: int, args: argparse.Namespace) -> tuple[float, float, float]:
    """Exact match, seconds of training, and dates read in a second."""
    data = draw(seed, train_size=args.train_size, evaluation_size=args.evaluation_size)
    trained = train_reader(data, seed=seed, steps=args.steps)
    measured = read(TokenClassifier(trained.model), data.evaluation).measurement
    return measured.match.overall, trained.seconds, measured.texts_per_second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--train-size", type=int, default=TRAIN_SIZE)
    parser.add_argument("--evaluation-size", type=int, default=EVALUATION_SIZE)
    args = parser.parse_args()

    console = Console()
    rows = []
    for seed in args.seeds:
        match, seconds, speed = measure(seed, args)
        rows.append((f"seed {seed}", match, seconds, speed))
        console.print(f"seed {seed}: {match:.2%} in {seconds:.0f} s", highlight=False)
    columns = zip(*(numbers for _, *numbers in rows), strict=True)
    rows.append(("median", *(statistics.median(column) for column in columns)))

    table = Table("", "exact match", "seconds of training", "dates per second")
    for name, match, seconds, speed in rows:
        table.add_row(name, f"{match:.2%}", f"{seconds:.0f}", f"{speed:,.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
