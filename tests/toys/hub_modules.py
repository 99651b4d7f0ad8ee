"""Reusable SavedModels of the tests' own, as TensorFlow Hub's interface describes them."""

from pathlib import Path

import tensorflow as tf

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "a", "very"]
MOMENTUM = 0.6


def numbers(shape, seed, scale=0.4):
    return tf.random.stateless_normal(shape, [seed, 7]) * scale


def save(folder, call, specs, variables, *, losses=(), flags=(False, True), **methods):
    """Saves what can be called with `training` (or without, when `flags` is empty)."""
    module = tf.__internal__.tracking.AutoTrackable()
    module.__call__ = tf.function(call, autograph=False)
    for training in flags:
        module.__call__.get_concrete_function(specs, training=training)
    if not flags:
        module.__call__.get_concrete_function(specs)
    module.variables = variables
    module.trainable_variables = [v for v in variables if v.trainable]
    module.regularization_losses = [tf.function(loss, input_signature=[], autograph=False) for loss in losses]
    for name, method in methods.items():
        setattr(module, name, method)
    tf.saved_model.save(module, str(folder))
    return str(folder)


def pictures(folder, *, norm=True, side=None, nested=True, dropout=False, op=None, **options):
    """A stem, a block and a head; `norm` puts batch normalisation with MOMENTUM behind the stem."""
    stem = tf.Variable(numbers([3, 3, 3, 4], 1), name="net/stem/kernel")
    gamma = tf.Variable(tf.ones([4]), name="net/stem/norm/gamma")
    beta = tf.Variable(tf.zeros([4]), name="net/stem/norm/beta")
    mean = tf.Variable(tf.zeros([4]), trainable=False, name="net/stem/norm/moving_mean")
    variance = tf.Variable(tf.ones([4]), trainable=False, name="net/stem/norm/moving_variance")
    block = tf.Variable(numbers([3, 3, 4, 6], 2), name="net/block_1/conv/kernel")
    top = tf.Variable(numbers([6, 5], 3), name="net/top/kernel")
    bias = tf.Variable(tf.zeros([5]), name="net/top/bias")

    def normalised(x, training):
        now = mean, variance
        if training:
            now = tf.nn.moments(x, [0, 1, 2])
            for moving, new in zip((mean, variance), now, strict=True):
                moving.assign(moving * MOMENTUM + new * (1 - MOMENTUM))
        return tf.nn.batch_normalization(x, *now, beta, gamma, 1e-3)

    def call(inputs, training=False):
        x = tf.nn.conv2d(inputs, stem, 2, "SAME")
        if norm:
            x = normalised(x, training)
        if op is not None:
            x = op(x)
        first = tf.nn.relu(x)
        x = tf.nn.relu(tf.nn.conv2d(first, block, 1, "SAME"))
        if dropout and training:
            x = tf.nn.dropout(x, 0.5)
        features = tf.reduce_mean(x, [1, 2]) @ top + bias
        return {"default": features, "maps": {"stem": first, "block": [x]}} if nested else features

    moving = [gamma, beta, mean, variance] if norm else []
    return save(
        folder,
        call,
        tf.TensorSpec([None, side, side, 3], name="inputs"),
        [stem, *moving, block, top, bias],
        losses=[lambda: 0.1 * tf.nn.l2_loss(top), lambda: 0.2 * tf.nn.l2_loss(stem)],
        **options,
    )


def encoder(folder, *, dropout=0.1):
    """Token ids, mask and types to `pooled_output`, `sequence_output` and a list of both layers' outputs."""
    table = tf.Variable(numbers([len(WORDS), 6], 4), name="encoder/words/embeddings")
    layers = [tf.Variable(numbers([6, 6], 5 + k), name=f"encoder/layer_{k}/dense/kernel") for k in range(2)]
    pooler = tf.Variable(numbers([6, 3], 8), name="encoder/pooler/kernel")

    def call(inputs, training=False):
        x = tf.gather(table, inputs["input_word_ids"]) + tf.cast(inputs["input_type_ids"], tf.float32)[..., None]
        outputs = []
        for kernel in layers:
            x = tf.nn.relu(x @ kernel)
            if training and dropout:
                x = tf.nn.dropout(x, dropout)
            outputs.append(x)
        mask = tf.cast(inputs["input_mask"], tf.float32)[..., None]
        pooled = tf.tanh(tf.reduce_sum(x * mask, 1) / tf.reduce_sum(mask, 1) @ pooler)
        return {"pooled_output": pooled, "sequence_output": x, "encoder_outputs": outputs}

    names = ("input_word_ids", "input_mask", "input_type_ids")
    specs = {name: tf.TensorSpec([None, None], tf.int32, name=name) for name in names}
    return save(folder, call, specs, [table, *layers, pooler])


def preprocessor(folder, *, length=8, packs=True):
    """Strings to an encoder's inputs; the words are an asset, looked up in a table."""
    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    vocabulary = Path(folder).with_suffix(".txt")
    vocabulary.write_text("\n".join(WORDS))
    kinds = (tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER)
    table = tf.lookup.StaticHashTable(tf.lookup.TextFileInitializer(str(vocabulary), *kinds), 1)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def tokenize(texts):
        return tf.strings.split(tf.strings.lower(texts)).with_flat_values(
            tf.cast(table.lookup(tf.strings.split(tf.strings.lower(texts)).flat_values), tf.int32)
        )

    def pack(segments, seq_length):
        rows = tf.shape(segments[0].to_tensor())[0]
        parts, types = [tf.fill([rows, 1], 2)], [tf.fill([rows, 1], 0)]
        for number, tokens in enumerate(segments):
            parts += [tokens, tf.fill([rows, 1], 3)]
            types += [tokens * 0 + number, tf.fill([rows, 1], number)]
        ids = tf.concat([tf.RaggedTensor.from_tensor(p) if isinstance(p, tf.Tensor) else p for p in parts], 1)
        kind = tf.concat([tf.RaggedTensor.from_tensor(p) if isinstance(p, tf.Tensor) else p for p in types], 1)
        shape = tf.stack([rows, seq_length])
        return {
            "input_word_ids": ids.to_tensor(shape=shape),
            "input_type_ids": kind.to_tensor(shape=shape),
            "input_mask": tf.ones_like(ids).to_tensor(shape=shape),
        }

    bert_pack_inputs = tf.function(lambda segments, seq_length: pack(segments, seq_length))
    ragged = tf.RaggedTensorSpec([None, None], tf.int32)
    for count in (1, 2):
        bert_pack_inputs.get_concrete_function([ragged] * count, seq_length=tf.TensorSpec([], tf.int32))

    def call(texts):
        made = pack([tokenize(texts)], tf.constant(length))
        return {name: tf.ensure_shape(ids, [None, length]) for name, ids in made.items()}

    methods = {"tokenize": tokenize, "bert_pack_inputs": bert_pack_inputs} if packs else {}
    return save(folder, call, tf.TensorSpec([None], tf.string), [], flags=(), table=table, **methods)


def sentences(folder):
    """Strings to vectors: the mean of hashed words' vectors."""
    table = tf.Variable(numbers([50, 16], 9), name="words/embeddings")

    def call(texts, training=False):
        words = tf.strings.split(texts)
        vectors = tf.gather(table, tf.strings.to_hash_bucket_fast(words, 50))
        return tf.math.divide_no_nan(tf.reduce_sum(vectors, 1), tf.cast(words.row_lengths(), tf.float32)[:, None])

    return save(folder, call, tf.TensorSpec([None], tf.string), [table])


def png(seed, side=20):
    """Noise, encoded."""
    noise = tf.random.stateless_uniform([side, side, 3], [seed, 3], maxval=256, dtype=tf.int32)
    return tf.io.encode_png(tf.cast(noise, tf.uint8)).numpy()
