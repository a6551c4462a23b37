"""Where nodes are, and which of them don't belong there."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from carousel_server.errors import DeviceError, ModelFileError
from carousel_server.runtime import placement, poolgraph
from carousel_server.runtime.device import Device
from carousel_server.runtime.manifest import read_model
from carousel_server.runtime.ondevice import devicemodel
from carousel_server.runtime.ondevice.exchange import Exchange
from carousel_server.runtime.placement import Placed
from carousel_server.runtime.session import create_session
from tests.support import models
from tests.support.loaded import load
from tests.support.ondevice import inputs, open_on_device
from tests.support.recurrent import cell

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def pool_graph(tmp_path, made):
    file = read_model(models.put(tmp_path, made))
    return placement.name_nodes(poolgraph.build_pool_graph(file.graph, file.spec, 4))


def asked(graph):
    """Return what ONNX Runtime itself says."""
    session = create_session(graph.SerializeToString(), Device("cpu"), threads=1, record=True)
    return placement.placed(session)


def test_every_node_is_told_of_by_its_name(tmp_path):
    graph = pool_graph(tmp_path, cell("lstm"))
    told = asked(graph)
    assert {node.provider for node in told} == {CPU}
    assert {node.name for node in told} <= {node.name for node in graph.graph.node}
    kinds = {node.name: node.op_type for node in graph.graph.node}
    assert all(kinds[node.name] == node.kind for node in told)
    assert "LSTM" in {node.kind for node in told}


def test_names_are_given_where_there_are_none_or_twice(tmp_path):
    made = models.running_sum()
    made.graph.node[0].name = made.graph.node[1].name = "twice"
    names = [node.name for node in placement.name_nodes(made).graph.node]
    assert len(set(names)) == len(names)
    assert names[0] == "twice"
    assert "" not in [node.name for node in pool_graph(tmp_path, cell("lstm")).graph.node]


def with_positions():
    """Return a model that adds to its answer which step of the run it is: 0, 1, 2 …"""
    made = cell("lstm")
    made.graph.node[-1].output[0] = "h_alone"
    made.graph.node.extend(
        [
            helper.make_node("Shape", ["x"], ["dims"], name="dims"),
            helper.make_node("Gather", ["dims", "first"], ["T"], name="T"),
            helper.make_node("Range", ["first", "T", "one"], ["steps"], name="steps"),
            helper.make_node("Cast", ["steps"], ["floats"], name="floats", to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["floats", "shape"], ["positions"], name="positions"),
            helper.make_node("Add", ["h_alone", "positions"], ["y"], name="sum"),
        ]
    )
    constants = {"first": np.int64(0), "one": np.int64(1), "shape": np.array([-1, 1, 1])}
    made.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()
    )
    return made


def test_arithmetic_on_shapes_belongs_on_the_cpu(tmp_path):
    """As ONNX Runtime places it for CUDA: what reads a shape, and what is computed from that."""
    graph = pool_graph(tmp_path, with_positions())
    on_cpu = {"dims", "T", "steps", "floats", "positions"}
    nodes = asked(graph)
    assert on_cpu <= {n.name for n in nodes}
    seen = [Placed(n.name, n.kind, CPU if n.name in on_cpu else CUDA) for n in nodes]
    assert placement.strays(seen, graph) == []
    seen = [Placed(n.name, n.kind, CPU if n.name == "sum" else CUDA) for n in nodes]
    assert [stray.node.name for stray in placement.strays(seen, graph)] == ["sum"]


def test_what_works_on_values_does_not(tmp_path):
    graph = pool_graph(tmp_path, cell("lstm"))
    seen = [Placed(n.name, n.kind, CPU if n.kind == "LSTM" else CUDA) for n in asked(graph)]
    (stray,) = placement.strays(seen, graph)
    assert stray.node.kind == "LSTM"
    assert stray.reason == "CUDA has no kernel for it with these types"
    table = placement.table([stray])
    assert table.splitlines()[0].split() == ["node", "operator", "why"]
    assert stray.node.name in table


@pytest.mark.parametrize(
    ("kind", "opset", "reason"),
    [
        ("LSTM", 22, "opset 22: CUDA has this operator up to 21; export it lower"),
        ("If", 17, "control flow: what it decides by is read on the CPU"),
        ("MemcpyToHost", 17, "a copy, beside a node on the CPU"),
    ],
)
def test_reasons(kind, opset, reason):
    graph = helper.make_model(
        helper.make_graph([], "g", [], []), opset_imports=[helper.make_opsetid("", opset)]
    )
    (stray,) = placement.strays([Placed("n", kind, CPU)], graph)
    assert stray.reason == reason


def test_nodes_that_the_optimizer_made_are_not_taken_for_shapes(tmp_path):
    graph = pool_graph(tmp_path, cell("lstm"))
    (stray,) = placement.strays([Placed("fused", "FusedMatMul", CPU)], graph)
    assert stray.node.name == "fused"


def test_an_onnx_runtime_that_cant_tell():
    with pytest.raises(NotImplementedError, match=r"1\.24 or later can"):
        placement.placed(object())


@pytest.fixture
def gpu_kind(monkeypatch):
    """Have models on the CPU provider checked as if they were on a GPU."""
    monkeypatch.setattr(devicemodel, "_ANYWHERE", frozenset())


def test_a_model_with_nodes_on_the_cpu_is_refused(tmp_path, gpu_kind):
    with pytest.raises(ModelFileError, match="would run on the CPU; --allow-cpu-nodes") as caught:
        open_on_device(tmp_path, with_positions())
    assert "LSTM" in str(caught.value)
    assert "carousel/pool_out/h0" in str(caught.value)
    assert "Range" not in str(caught.value)


def test_unless_that_is_allowed(tmp_path, gpu_kind, monkeypatch):
    """What such nodes read is bound when it is there: it is copied to them then, and not later."""
    model = open_on_device(tmp_path, cell("lstm"), allow_cpu_nodes=True)
    ordinary = load(tmp_path, cell("lstm"))
    happened = []
    for what in ("wait_for_all", "upload"):
        watch(monkeypatch, model.memory, what, happened)
    watch(monkeypatch, Exchange, "_bind_inputs", happened)
    rng = np.random.default_rng(0)
    for _ in range(3):
        values = inputs(model, rng, 2, 3)
        slots, lengths = np.array([1, 2, 3]), np.array([2, 1, 2])
        happened.clear()
        came, _ = model.run(slots, lengths, values)
        run = happened[happened.index("upload") :]  # before it, what had to be made
        assert run[:3] == ["upload", "wait_for_all", "_bind_inputs"]
        wanted, _ = ordinary.run(slots, lengths, values)
        np.testing.assert_allclose(came["y"][0], wanted["y"][0], atol=1e-6)


def watch(monkeypatch, owner, name, happened):
    original = getattr(owner, name)

    def watched(*arguments):
        happened.append(name)
        return original(*arguments)

    monkeypatch.setattr(owner, name, watched)


def test_lengths_are_bound_anew_for_each_run(tmp_path, monkeypatch):
    """A node on the device may read them too."""
    model = open_on_device(tmp_path, cell("lstm"))
    happened = []
    watch(monkeypatch, Exchange, "_bind_on_host", happened)
    watch(monkeypatch, Exchange, "_bind_inputs", happened)
    values = inputs(model, np.random.default_rng(0), 2, 3)
    for _ in range(2):
        model.run(np.array([1, 2, 3]), np.array([2, 1, 2]), values)
    assert happened == ["_bind_inputs", "_bind_on_host", "_bind_on_host"]


def test_where_nobody_can_tell_no_gpu_is_used(tmp_path, gpu_kind, monkeypatch):
    def cant(session):
        raise NotImplementedError("can't tell")

    monkeypatch.setattr(placement, "placed", cant)
    with pytest.raises(DeviceError, match="can't tell"):
        open_on_device(tmp_path, cell("lstm"))


def test_onnx_is_left_alone(tmp_path):
    made = models.running_sum()
    before = onnx.ModelProto()
    before.CopyFrom(made)
    placement.name_nodes(made)
    assert made == before
