"""The parts of the long-memory example: problems, starts, training, the grid, the tables."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from carousel_exporter.initialisation import initialise
from carousel_exporter.network import RecurrentNetwork
from examples.memory import options
from examples.memory.grid import Grid, Outcome, Run
from examples.memory.networks import NETWORKS, architecture, build
from examples.memory.picture import draw_picture
from examples.memory.problems import PROBLEMS, tensors
from examples.memory.streaming import Comparison
from examples.memory.summary import Spread, markdown, read_csv, spreads, write_csv
from examples.memory.training import Settings, answer, train

BIT, ADDING = PROBLEMS["bit"], PROBLEMS["adding"]
TINY = Settings(lstm_hidden=4, batch=4, updates=4, check_every=2, validation=8, test=8)


def draw(problem, lag, count=4000):
    return problem.draw(np.random.default_rng(0), lag, count)


def test_the_bit_is_shown_once_and_hidden_among_others():
    drawn = draw(BIT, 7)
    assert drawn.x.shape == (8, 4000, 2)
    np.testing.assert_array_equal(drawn.x[0, :, 0], drawn.y)
    np.testing.assert_array_equal(drawn.x[:, 0, 1], [1, 0, 0, 0, 0, 0, 0, 0])
    assert set(np.unique(drawn.x[:, :, 0])) == {-1, 1}
    later = drawn.x[1:, :, 0] == drawn.y
    assert later.mean() == pytest.approx(0.5, abs=0.01)  # nothing later gives it away


@pytest.mark.parametrize("lag", [4, 5, 50])
def test_one_number_of_each_half_is_added(lag):
    drawn = draw(ADDING, lag)
    assert drawn.x.shape == (lag, 4000, 2)
    flags = drawn.x[:, :, 1]
    assert (flags[: lag // 2].sum(axis=0) == 1).all()
    assert (flags[lag // 2 :].sum(axis=0) == 1).all()
    np.testing.assert_allclose((drawn.x[:, :, 0] * flags).sum(axis=0), drawn.y, rtol=1e-6)
    assert drawn.x[:, :, 0].min() >= 0
    assert drawn.x[:, :, 0].max() <= 1


def test_who_remembers_nothing_scores_what_is_called_chance():
    rng = np.random.default_rng(1)
    bits = draw(BIT, 4, 50_000)
    guesses = rng.normal(size=50_000).astype(np.float32)
    assert BIT.score(guesses, bits.y) == pytest.approx(BIT.chance, abs=0.01)
    sums = draw(ADDING, 4, 50_000)
    assert ADDING.score(np.ones_like(sums.y), sums.y) == pytest.approx(ADDING.chance, rel=0.02)
    for problem, drawn in ((BIT, bits), (ADDING, sums)):
        assert not problem.is_learnt(problem.chance)
        assert problem.is_surely_learnt(problem.score(drawn.y, drawn.y))


def test_a_score_is_surely_learnt_where_it_is_well_beyond_learnt():
    assert BIT.is_learnt(0.99)
    assert not BIT.is_surely_learnt(0.99)
    assert not BIT.is_learnt(0.98)
    assert ADDING.is_learnt(0.01)
    assert not ADDING.is_surely_learnt(0.01)
    assert ADDING.is_surely_learnt(0.005)


@pytest.mark.parametrize("name", NETWORKS)
def test_all_networks_have_as_many_weights(name):
    network = build(NETWORKS[name], lag=10, lstm_hidden=32, seed=0)
    weights = sum(weight.numel() for weight in network.recurrent.parameters())
    assert weights == pytest.approx(4 * 32 * (2 + 32 + 2), rel=0.02)


@pytest.mark.parametrize(("name", "keeps"), [("lstm", 1), ("gru", 1)])
def test_gates_begin_by_remembering_as_long_as_the_problem_asks(name, keeps):
    network = build(NETWORKS[name], lag=200, lstm_hidden=32, seed=0)
    gates = network.architecture.kind.gates
    biases = sum(
        network.recurrent.get_parameter(f"bias_{side}_l0").view(gates, -1) for side in ("ih", "hh")
    ).detach()
    remembered = 1 / (1 - torch.sigmoid(biases[keeps]))  # steps
    assert remembered.min() > 1
    assert 100 < remembered.max() <= 201
    if name == "lstm":
        torch.testing.assert_close(biases[0], -biases[keeps])


def test_a_plain_start_is_pytorchs_own():
    network = NETWORKS["lstm-plain"]
    own = build(network, lag=200, lstm_hidden=8, seed=3)
    torch.manual_seed(3)
    theirs = RecurrentNetwork(architecture(network, lstm_hidden=8))
    for name, weight in own.state_dict().items():
        torch.testing.assert_close(weight, theirs.state_dict()[name], rtol=0, atol=0)


def test_a_careful_rnn_begins_orthogonal():
    own = build(NETWORKS["rnn"], lag=200, lstm_hidden=4, seed=3)
    torch.manual_seed(3)
    theirs = RecurrentNetwork(own.architecture)
    initialise(theirs)
    R = own.recurrent.get_parameter("weight_hh_l0").detach()
    torch.testing.assert_close(R, theirs.recurrent.get_parameter("weight_hh_l0").detach())
    torch.testing.assert_close(R @ R.T, torch.eye(len(R)))


def test_training_solves_an_easy_problem_and_stops():
    settings = Settings(lstm_hidden=8, updates=400, check_every=20, validation=200)
    network = NETWORKS["lstm"]
    untrained = build(network, lag=4, lstm_hidden=8, seed=0)
    trained = train(untrained, BIT, 4, settings, rate=network.rate, seed=0)
    unseen = draw(BIT, 4, 500)
    assert BIT.score(answer(trained.network, unseen.x), unseen.y) >= 0.99
    assert trained.best_update == trained.updates < 400


def test_the_best_network_is_kept_not_the_last():
    """With steps far too large the score of a later check is worse."""
    settings = Settings(lstm_hidden=8, updates=100, check_every=5, validation=200, clip=100)
    network = build(NETWORKS["lstm-plain"], lag=6, lstm_hidden=8, seed=0)
    trained = train(network, ADDING, 6, settings, rate=1.0, seed=0)
    assert trained.updates == 100
    unseen = draw(ADDING, 6, 500)
    best, last = (
        ADDING.score(answer(some, unseen.x), unseen.y) for some in (trained.network, network)
    )
    assert trained.best_update < 100
    assert best < last


def grid_in(folder, **changes):
    made = Grid(("bit", "adding"), ("rnn", "lstm"), (4,), (0, 1), TINY, folder)
    return dataclasses.replace(made, **changes)


def test_a_grid_goes_seed_by_seed():
    seeds = [run.seed for run in grid_in(None).runs()]
    assert seeds == sorted(seeds)
    assert len(seeds) == len(set(grid_in(None).runs())) == 8


def test_an_interrupted_grid_goes_on_where_it_was(tmp_path):
    begun = grid_in(tmp_path).outcomes()
    first, _second = next(begun), next(begun)
    begun.close()
    path = tmp_path / f"{first.run.name}.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"score": 0.125}))  # so that reading and training differ
    outcomes = list(grid_in(tmp_path).outcomes())
    assert outcomes[0] == dataclasses.replace(first, score=0.125)
    assert [outcome.run for outcome in outcomes] == grid_in(tmp_path).runs()
    assert list(grid_in(tmp_path).outcomes()) == outcomes


def test_other_conditions_are_another_training(tmp_path):
    runs = {"problems": ("bit",), "networks": ("rnn",), "seeds": (0,)}
    (before,) = grid_in(tmp_path, **runs).outcomes()
    longer = dataclasses.replace(TINY, updates=6, check_every=3)
    (after,) = grid_in(tmp_path, **runs, settings=longer).outcomes()
    assert (before.updates, after.updates) == (4, 6)


def test_a_training_can_be_repeated(tmp_path):
    runs = {"problems": ("adding",), "networks": ("lstm",), "seeds": (1,)}
    first, second = (grid_in(tmp_path / name, **runs) for name in ("a", "b"))
    (one,), (other,) = first.outcomes(), second.outcomes()
    assert one.score == other.score
    x, _ = tensors(draw(ADDING, 4, 3))
    with torch.inference_mode():
        torch.testing.assert_close(
            first.network(one.run)(x)[0], second.network(one.run)(x)[0], rtol=0, atol=0
        )


def outcome(score, *, seed, network="rnn", lag=4, problem="bit"):
    return Outcome(Run(problem, network, lag, seed), score, 2, 4, 0.5)


OUTCOMES = [
    *(outcome(score, seed=seed) for seed, score in enumerate((0.5, 1.0, 0.75))),
    *(outcome(1.0, seed=seed, network="lstm") for seed in range(3)),
]


def test_seeds_are_told_by_their_median_and_range(tmp_path):
    assert Spread((0.5, 1.0, 0.75)).words(BIT) == "75.0 % (50.0 % to 100.0 %)"
    assert Spread((0.016, 0.016)).words(ADDING) == "0.0160"
    assert spreads(OUTCOMES, "bit")["rnn"][4].middle == 0.75
    streamed = [Comparison(one.run, 20, one.score, one.score, 1e-7) for one in OUTCOMES]
    assert "| 4 | 75.0 % (50.0 % to 100.0 %) | 100.0 % |" in markdown(OUTCOMES)
    write_csv(tmp_path / "a.csv", OUTCOMES, streamed)
    assert (tmp_path / "a.csv").read_text().splitlines()[1] == "bit,rnn,4,0,0.5,0.5,1.0e-07,4,2,0.5"
    assert read_csv(tmp_path / "a.csv") == OUTCOMES


def test_the_picture_is_drawn_of_several_lags_and_seeds(tmp_path):
    more = [
        outcome(0.5, seed=seed, network=name, lag=9) for seed in (0, 1) for name in ("rnn", "lstm")
    ]
    draw_picture(tmp_path / "a.png", [*OUTCOMES, *more], ("bit",))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--lags", "3"], "a lag of 4 or more steps is needed, not 3"),
        (["--seeds", "0"], "a whole number above 0 is needed, not 0"),
        (["--updates", "many"], "a whole number above 0 is needed, not many"),
    ],
)
def test_bad_options_are_told(capsys, words, told):
    with pytest.raises(SystemExit) as ended:
        options.parse_options(words)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_quick_is_one_seed_at_four_lags():
    quick, full = options.parse_options(["--quick"]), options.parse_options([])
    assert (len(quick.seeds), len(quick.lags)) == (1, 4)
    assert (len(full.seeds), min(full.lags), max(full.lags)) == (3, 5, 500)
    assert quick.settings == full.settings
