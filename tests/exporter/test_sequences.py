"""Labelled sequences from CSV and `.ts` files, and what is wrong with some."""

import numpy as np
import pytest

from carousel_exporter.errors import DataError
from carousel_exporter.sequences import read_sequences

CSV = "id,a,b,who\nx,1,2,ann\ny,5,,bob\nx,3,,ann\ny,7,8,bob\n"
TS = """# a comment
@problemName Test
@timeStamps false
@univariate false
@classLabel true one two
@data
1,2,3:4,5,6:two
7,?:8,9:one
"""


@pytest.fixture
def file(tmp_path):
    def write(text, name="s.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_rows_of_a_csv_file_are_gathered_by_sequence(file):
    found = read_sequences(file(CSV), sequence="id", label="who", features=["a"])
    assert found.columns == ("a",)
    assert found.classes == ("ann", "bob")
    assert [values.tolist() for values in found.values] == [[[1], [3]], [[5], [7]]]
    assert [labels.tolist() for labels in found.labels] == [[0, 0], [1, 1]]
    assert found.names == ("sequence 'x'", "sequence 'y'")
    assert not found.is_labelled_by_step


def test_gaps_take_the_value_before_in_their_own_sequence(file):
    text = CSV.replace("y,5,,bob", "y,5,6,bob")
    found = read_sequences(file(text), sequence="id", label="who")
    assert found.columns == ("a", "b")
    assert found.values[0].tolist() == [[1, 2], [3, 2]]
    assert found.filled == {"a": 0, "b": 1}


def test_a_row_of_no_sequence_is_refused(file):
    with pytest.raises(DataError, match=r"Line 3 of .*: the sequence, 'id', is missing"):
        read_sequences(file(CSV.replace("y,5", ",5")), sequence="id", label="who")


def test_sequences_and_labels_are_two_columns(file):
    with pytest.raises(DataError, match="--sequence and --label are both 'who'"):
        read_sequences(file(CSV), sequence="who", label="who")


def test_labels_may_change_on_the_way(file):
    found = read_sequences(file("id,a,who\nx,1,10\nx,2,9\n"), sequence="id", label="who")
    assert found.classes == ("9", "10")  # numbers by value
    assert found.labels[0].tolist() == [1, 0]
    assert found.is_labelled_by_step


def test_a_ts_file_is_read(file):
    found = read_sequences(file(TS, "s.ts"))
    assert found.columns == ("dimension_1", "dimension_2")
    assert found.classes == ("one", "two")
    assert found.values[0].tolist() == [[1, 4], [2, 5], [3, 6]]
    assert found.values[1].tolist() == [[7, 8], [7, 9]]
    assert found.filled == {"dimension_1": 1, "dimension_2": 0}
    assert [labels.tolist() for labels in found.labels] == [[1, 1, 1], [0, 0]]


def test_a_test_file_is_read_in_the_classes_of_the_training_file(file):
    train = read_sequences(file(CSV), sequence="id", label="who", features=["a"])
    other = file("who,id,zzz,a\nbob,q,text,4\n", "t.csv")
    test = read_sequences(other, sequence="id", label="who", like=train)
    assert test.columns == ("a",)
    assert test.labels[0].tolist() == [1]
    np.testing.assert_array_equal(test.values[0], [[4]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,a,who\nx,,ann\n", ["Line 2", "'a'", "begins without a value"]),
        ("id,a,who\nx,1,ann\nx,warm,ann\n", ["Line 3", "column 'a'", "'warm'", "finite number"]),
        ("id,a,who\nx,1,ann\nx,2,\n", ["Line 3", "label, 'who', is missing"]),
        ("id,a\nx,1\n", ["no column 'who'", "id, a"]),
        ("id,who\nx,ann\n", ["no column beside 'id' and 'who'"]),
        ("id,a,who\nx,1\n", ["Line 2", "2 cells"]),
    ],
)
def test_what_is_wrong_with_a_csv_file_is_said(file, text, words):
    with pytest.raises(DataError) as caught:
        read_sequences(file(text), sequence="id", label="who")
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_label_that_is_seen_in_the_test_file_alone_is_named(file):
    train = read_sequences(file(CSV), sequence="id", label="who", features=["a"])
    other = file("id,a,b,who\nq,1,2,ann\nr,3,4,eve\n", "t.csv")
    with pytest.raises(DataError, match=r"Line 3 of .*t\.csv: the label 'eve' .* ann, bob\."):
        read_sequences(other, sequence="id", label="who", like=train)


@pytest.mark.parametrize("missing", ["sequence", "label"])
def test_a_csv_file_needs_both_columns_named(file, missing):
    columns = {"sequence": "id", "label": "who"} | {missing: ""}
    with pytest.raises(DataError, match=f"--{missing} must name a column of .*: id, a, b, who"):
        read_sequences(file(CSV), **columns)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("8,9:one", "8,9,1:one"), "Line 8 of .*: dimension 2 has 3 values, and dimension 1 has 2"),
        (("8,9:one", "8,9:six"), "Line 8 of .*: the class 'six' .*, one, two"),
        (("8,9:one", "8,x:one"), "Line 8 of .*: dimension 2 holds 'x'"),
        (("8,9:one", "8,9:1,1:one"), r"Line 8 of .* has 3 dimensions, and the first case has 2"),
        (("7,?:8,9:one", "?,7:8,9:one"), "Line 8 of .*: a sequence begins without a value of 'dim"),
        (("7,?:8,9:one", "one"), "Line 8 of .*: values, a colon and a class"),
        (("@classLabel true one two\n", ""), "declares no classes"),
        (("@timeStamps false", "@timeStamps true"), "Line 3 of .*time stamps"),
        (("@univariate", "univariate"), "Line 4 of .*begins with @"),
    ],
)
def test_what_is_wrong_with_a_ts_file_is_said(file, change, words):
    with pytest.raises(DataError, match=words):
        read_sequences(file(TS.replace(*change), "s.ts"))


@pytest.mark.parametrize("text", ["", "@classLabel true a\n@data\n"])
def test_a_ts_file_without_cases_is_refused(file, text):
    with pytest.raises(DataError, match="has no cases"):
        read_sequences(file(text, "s.ts"))


def test_a_missing_ts_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no file .*gone\.ts"):
        read_sequences(tmp_path / "gone.ts")
