"""What every dataset family promises, over the whole registry."""

import copy
import json
import pickle

import numpy as np
import pytest

from mlmd import datasets
from mlmd.config import DATASETS, ConfigError
from mlmd.datasets import FAMILIES
from mlmd.datasets.base import TRAIN, VALIDATION, placed, split, stream
from mlmd.fields import FIELDS
from mlmd.state import NonFiniteState, OverlappingAtoms, RunawayAtom, SimulationFailure
from mlmd.units import CONSTANTS, UNITS
from tests.helpers import digest, family_example, python
from tests.tolerances import ROUNDING

every_family = pytest.mark.parametrize("name", FAMILIES)


def test_every_section_of_a_run_file_has_its_family():
    assert set(FAMILIES) == set(DATASETS)


def test_a_family_that_cannot_be_generated_is_refused_with_those_that_can():
    with pytest.raises(ConfigError, match=f"dataset.family: no_family cannot be generated.*{', '.join(FAMILIES)}"):
        datasets.load("no_family")


def test_a_family_is_imported_when_it_is_asked_for():
    loaded = "import sys, mlmd.datasets as d\n{}\nprint([n for n in d.FAMILIES.values() if n in sys.modules])"
    assert python(loaded.format("")).strip() == "[]"
    assert python(loaded.format("d.load('newton1d')")).strip() == "['mlmd.datasets.newton1d']"


@every_family
def test_items_fill_the_schema_exactly(name):
    """Each item's arrays have the schema's names, types and shapes, and the items' slices cover every array once."""
    config, family = family_example(name), datasets.load(name)
    schema = family.schema(config)
    covered = {path: np.zeros(array.shape[0], dtype=int) for path, array in schema.items()}
    for row in family.rows(config):
        start, stop = family.item_slice(config, row)
        for path, values in family.simulate(config, row).items():
            array = schema[path]
            assert values.dtype == array.dtype == array.field.dtype
            assert values.shape == (stop - start, *array.shape[1:])
            assert len(values.shape) == len(array.field.axes)
            assert array.field is FIELDS[path.rsplit("/", 1)[1]]
            assert start % array.rows == 0
            assert stop % array.rows == 0 or stop == array.shape[0]
            covered[path][start:stop] += 1
    assert all((times == 1).all() for times in covered.values())


@every_family
def test_any_process_makes_the_same_bytes_of_an_item(name):
    config, family = family_example(name), datasets.load(name)
    digests = python(
        "from mlmd import datasets\n"
        "from tests.helpers import digest, family_example\n"
        f"config, family = family_example({name!r}), datasets.load({name!r})\n"
        "for row in reversed(family.rows(config)):\n"
        "    print(digest(family.simulate(config, row)))\n"
    ).split()
    for row, found in zip(family.rows(config), reversed(digests), strict=True):
        assert found == digest(family.simulate(config, row))


# What is published is there once, whatever the seed.
@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"end_states"}))
def test_another_seed_makes_another_dataset(name):
    family = datasets.load(name)
    one, other = family_example(name, seed=1), family_example(name, seed=2)
    assert family.rows(one) == family.rows(other)
    assert any(digest(family.simulate(one, row)) != digest(family.simulate(other, row)) for row in family.rows(one))


@every_family
def test_rows_and_attributes_and_moments_are_plain_values(name):
    """They are kept as JSON, which must not change them."""
    config, family = family_example(name), datasets.load(name)
    rows = family.rows(config)
    told = [rows, family.attributes(config)]
    told += [dict(family.moments(config, row, family.simulate(config, row))) for row in rows]
    assert json.loads(json.dumps(told)) == told


@every_family
def test_every_array_has_a_unit_in_the_unit_system_of_the_store(name):
    config, family = family_example(name), datasets.load(name)
    # The stores of the first family do not name theirs.
    units = family.attributes(config).get("units", "reduced" if name == "newton1d" else None)
    assert {array.field.unit for array in family.schema(config).values()} <= set(UNITS[units])


@every_family
def test_an_item_stores_no_more_than_the_section_says(name):
    config, family = family_example(name), datasets.load(name)
    stored = max(sum(a.nbytes for a in family.simulate(config, row).values()) for row in family.rows(config))
    # Parameters, one number a system, are not counted.
    assert stored <= 1.1 * config.dataset.item_bytes


def test_every_field_has_a_name_a_type_and_a_unit():
    for name, field in FIELDS.items():
        assert field.name == name
        assert any(field.unit in system for system in UNITS.values())
        assert np.dtype(field.dtype).name == field.dtype


def test_the_constants_of_metal_units_are_those_of_nature():
    """CODATA of 2018: k = 8.617333262e-5 eV/K, 1 g/mol (Å/ps)² = 1.03642697e-4 eV, e²/4πε₀ = 14.3996455 eV Å."""
    assert set(CONSTANTS) == set(UNITS)
    metal = CONSTANTS["metal"]
    avogadro, charge = 6.02214076e23, 1.602176634e-19
    assert metal.boltzmann == pytest.approx(1.380649e-23 / charge, rel=2e-6)
    assert metal.inertia == pytest.approx(1e-3 / avogadro * 1e4 / charge, rel=1e-7)
    assert metal.coulomb == pytest.approx(charge / (4 * np.pi * 8.8541878128e-12) * 1e10, rel=1e-7)
    # Silicon: 8 atoms of 28.0855 in a cube of 5.431 Å are 2.329 g/cm³.
    assert metal.molar_density * 2.3291 / 28.0855 == pytest.approx(8 / 5.431**3, rel=1e-4)
    assert metal.molar_density == pytest.approx(avogadro * 1e-24, rel=ROUNDING)


def test_streams_of_two_purposes_are_independent_and_of_one_the_same():
    draws = {key: tuple(stream(*key).integers(2**62, size=4)) for key in [(1, 2), (1, 2, 0), (1, 3), (2, 2), (12,)]}
    assert len(set(draws.values())) == len(draws)
    assert tuple(stream(1, 2).integers(2**62, size=4)) == draws[1, 2]


def test_a_split_has_as_many_as_asked_for_in_random_places():
    parts = split(stream(1), 1000, 800)
    assert parts.dtype == np.int8
    assert np.count_nonzero(parts == TRAIN) == 800
    assert np.count_nonzero(parts == VALIDATION) == 200
    assert 100 < np.count_nonzero(parts[:500] == VALIDATION) * 2 < 300


@pytest.mark.parametrize(
    "error",
    [
        NonFiniteState(3, 5, 17),
        OverlappingAtoms(3, (1, 2), 0.01, 17),
        RunawayAtom(3, 5, 17, 1e9),
        SimulationFailure("the energy drifts{at_step}", 3, 17),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failure_is_named_by_its_place_in_the_store_and_travels_so(error):
    with pytest.raises(type(error)) as caught, placed("rho0.10/train", 40):
        raise copy.copy(error)
    for found in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert str(found) == str(error).replace("system 3:", "system rho0.10/train/43:")
        assert found.system == "rho0.10/train/43"
        assert found.step == 17


def test_other_errors_pass_a_place_unchanged():
    with pytest.raises(ValueError, match=r"^shape$"), placed("sweep", 0):
        raise ValueError("shape")
