"""Long work on one call's arguments lets others have their turn."""

from gateway.catalogue.json_text import split_object
from gateway.catalogue.query import Catalogue
from gateway.catalogue.types import Family, Form, Signature, Type
from gateway.execution.plans import Plans
from tests.execution.samples import INTEGER, query

INTEGERS = Type("integer[]", "pg_catalog._int4", Family.ARRAY, element=INTEGER)


def test_what_a_binder_reads_in_slices_is_paused_between_them_by_what_the_plans_were_given() -> None:
    pauses: list[None] = []
    asked = query()
    plans = Plans(Catalogue({asked.name: asked}, "hash"), lambda: pauses.append(None))
    plans.learnt(asked.name, Signature(parameters=(INTEGERS,), columns=(), form=Form.PLAIN), at=0.0)
    plans.get(asked).binder.bind_json(split_object(b'{"id": [%b]}' % b",".join([b"1"] * 10_000)))
    assert len(pauses) >= 10
