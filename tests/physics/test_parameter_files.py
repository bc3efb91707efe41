"""Parameter files: what is read, and what is said of a file that cannot be."""

import numpy as np
import pytest

from mlmd.physics.potentials import StillingerWeber, Vashishta
from mlmd.physics.potentials.parameter_files import FOLDER, STILLINGER_WEBER, VASHISHTA, read, species_indices
from mlmd.state import InvalidInput

ENTRY = "Si Si Si 2.1683 2.0951 1.80 21.0 1.20 -0.333333333333 7.049556277 0.6022245584 4 0 0\n"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "mine.sw"


def test_ours_are_read_by_name():
    silica = read("SiO.1990.vashishta", VASHISHTA)
    assert silica.elements == ("Si", "O")
    assert np.array_equal(silica.pairs("H"), [[0.82023, 163.859], [163.859, 743.848]])
    assert np.array_equal(silica.pairs("Zi"), [[1.6, 1.6], [-0.8, -0.8]])
    assert silica.triplets("B")[0, 1, 1] == 5.0365
    assert silica.triplets("B")[1, 0, 0] == 20.146
    assert np.count_nonzero(silica.triplets("B")) == 2
    water = read("mW.sw", STILLINGER_WEBER)
    assert (water.elements, water.pairs("lambda")[0, 0]) == (("mW",), 23.15)


def test_every_file_of_ours_makes_a_potential():
    for path in FOLDER.iterdir():
        kind = {".sw": StillingerWeber, ".vashishta": Vashishta}[path.suffix]
        assert kind.from_file(path.name).elements == kind.from_file(path).elements


def test_elements_choose_and_order():
    swapped = read("SiO.1990.vashishta", VASHISHTA, elements=("O", "Si"))
    assert swapped.pairs("H")[0, 0] == 743.848
    alone = read("SiO.1990.vashishta", VASHISHTA, elements=("O",))
    assert (alone.elements, alone.triplets("H").shape) == (("O",), (1, 1, 1))


def test_entries_run_over_lines_and_comments_are_passed_over(file):
    words = ENTRY.split()
    file.write_text("# a comment, with an é\n\n" + "  # and another\n".join([" ".join(words[:5]), " ".join(words[5:])]))
    table = read(file, STILLINGER_WEBER)
    assert table.pairs("epsilon")[0, 0] == 2.1683
    assert table.pairs("B")[0, 0] == 0.6022245584
    assert table.places[0, 0, 0] == "mine.sw:3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mine.sw: no entry; one is three elements and epsilon sigma"),
        ("# none\n" + ENTRY.replace("2.0951", "2,0951"), "mine.sw:2: sigma is '2,0951' and should be a finite number"),
        (ENTRY.replace("2.1683", "nan"), "mine.sw:1: epsilon is 'nan' and should be a finite number"),
        (ENTRY.replace("Si Si Si", "Si Si"), "mine.sw:1: 2.1683 stands where an element should; an entry is three"),
        (
            ENTRY.replace(" 4 0 0", " 4 0"),
            "mine.sw:1: 10 numbers instead of 11; an entry is three elements and epsilon",
        ),
        (ENTRY.replace(" 4 0 0", " 4 0 0 7"), "mine.sw:1: 12 numbers instead of 11"),
        (ENTRY.replace(" 4 0 0", " 4 0") + ENTRY, "mine.sw:1: tol is 'Si' and should be a finite number"),
        (ENTRY + "\n" + ENTRY, "mine.sw:3: the entry Si Si Si stands at mine.sw:1 already"),
        (ENTRY + ENTRY.replace("Si Si Si", "Ge Ge Ge"), "mine.sw: no entry Si Si Ge; every ordered triplet of Si, Ge"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(file, text, message):
    file.write_text(text)
    with pytest.raises(InvalidInput, match=message):
        StillingerWeber.from_file(file)


def test_a_missing_file_is_answered_with_ours(tmp_path):
    with pytest.raises(InvalidInput, match=r"no parameter file Ge.sw; .* one of ours: Si.sw, mW.sw$"):
        StillingerWeber.from_file("Ge.sw")
    with pytest.raises(InvalidInput, match=r"one of ours: SiO.1990.vashishta$"):
        Vashishta.from_file(tmp_path)


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        (("Si", "Ge"), "no entry has the central atom 'Ge'; there are: Si, O"),
        (("Si", "Si"), "name each element once"),
        ((), "name each element once"),
    ],
)
def test_elements_that_are_not_there_are_refused(elements, message):
    with pytest.raises(InvalidInput, match=message):
        Vashishta.from_file("SiO.1990.vashishta", elements=elements)


def test_species_by_number_and_by_name():
    names = ("Si", "O")
    for given in ([1, 2, 2], [1.0, 2.0, 2.0], ["Si", "O", "O"], np.array(["Si", "O", "O"], dtype=object)):
        assert np.array_equal(species_indices(np.array(given), 3, names), [0, 1, 1])
    assert np.array_equal(species_indices(None, 2, ("Si",)), [0, 0])
