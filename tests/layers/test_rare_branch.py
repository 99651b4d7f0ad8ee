"""A rare branch gives what tf.cond gives and is one op of the graph."""

import tensorflow as tf

from tfpt.layers.rare_branch import rare_branch


def many_ops(x):
    for k in range(50):
        x = x + k
    return x


def test_takes_the_right_branch_even_of_an_outer_tensor():
    @tf.function(autograph=False)
    def f(x, y):
        return rare_branch(y > 0, lambda v: many_ops(v) * y, lambda v: v, x)

    assert f(tf.constant(1), tf.constant(2)) == (1 + 49 * 25) * 2
    assert f(tf.constant(1), tf.constant(0)) == 1
    assert rare_branch(tf.constant(True), many_ops, lambda v: v, 1) == 1 + 49 * 25


def test_its_ops_stay_out_of_the_conditional():
    traced = tf.function(
        lambda x: rare_branch(x > 0, many_ops, lambda v: v, x),
        autograph=False,
        input_signature=[tf.TensorSpec([], tf.int32)],
    ).get_concrete_function()
    functions = traced.graph.as_graph_def().library.function
    apart = [f for f in functions if len(f.node_def) > 40]
    assert len(apart) == 1 and apart[0].attr["_noinline"].b
    assert all(len(f.node_def) < 10 for f in functions if f is not apart[0])


TRACED = []


def counted(x):
    TRACED.append(x)
    return x + 1


def test_a_branch_of_a_module_is_traced_once_for_all_graphs():
    for _ in range(3):
        f = tf.function(lambda x: rare_branch(x > 0, counted, lambda v: v, x), autograph=False)
        assert (f(tf.constant(1)), f(tf.constant(0))) == (2, 0)
    assert len(TRACED) == 1
