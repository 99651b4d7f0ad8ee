import pytest

from tfpt import augment, registry
from tfpt.augment.flip import Flip
from tfpt.augment.random_crop import RandomCrop
from tfpt.errors import UserError


@pytest.mark.parametrize(
    ("text", "ops"),
    [
        ("", ()),
        ("none", ()),
        ("flip", (Flip(),)),
        ("flip()", (Flip(),)),
        (" random_crop( pad = 8 ) | flip ", (RandomCrop(pad=8), Flip())),
        ("random_crop(0.25)", (RandomCrop(pad=0.25),)),
        ("random_crop(true)", (RandomCrop(pad=True),)),
        ("flip|flip", (Flip(), Flip())),
    ],
)
def test_the_grammar(text, ops):
    assert augment.parse(text) == ops


def test_an_operation_outside_tfpt_is_found_by_its_dotted_name():
    (op,) = augment.parse("toys.toy_mix(most=0.2)")
    assert (type(op).__name__, op.most) == ("ToyMix", 0.2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("flop", "Did you mean flip"),
        ("flip|", "is not NAME or NAME"),
        ("random_crop(8", "is not NAME or NAME"),
        ("random_crop(size=8)", "random_crop takes pad=0.1"),
        ("random_crop(1,2)", "random_crop takes pad=0.1"),
        ("random_crop(pad=-1)", "is not positive"),
        ("random_crop(pad=__import__('os'))", "random_crop takes pad"),
        ("random_crop(pad=wide)", "random_crop takes pad"),
        ("random_crop(pad='wide')", "random_crop takes pad"),
        ("random_crop(pad=8)(2)", "more than one pair"),
        ("random_crop(**{'pad': 3})", "** is not allowed"),
        ("random_crop(*[3])", "random_crop takes pad"),
        ("flip(2)", "takes no arguments"),
    ],
)
def test_what_is_wrong_is_said_with_the_flag(text, says):
    with pytest.raises(UserError) as error:
        augment.parse(text)
    assert "--" in str(error.value)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", registry.names("augment"))
def test_each_operation_is_a_frozen_dataclass_that_works_on_one_example_or_on_a_batch(name):
    op = registry.find("augment", name)
    assert op.__dataclass_params__.frozen
    assert op.__doc__
    assert (op.example is augment.Op.example) != (op.batch is augment.Op.batch)
