"""Tables of texts and labels: delimiters, quotes, headers, columns, labels and what is refused."""

import csv
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfpt.config import Input
from tfpt.data import _texts
from tfpt.data.csv import Csv
from tfpt.errors import UserError
from tfpt.training.pipeline import Prepared
from tfpt.training.splits import split


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "home"))


@pytest.fixture
def put(tmp_path):
    """Writes files and returns the source on one of them, or on their folder: `put({"a.csv": "..."}, label="x")`."""

    def put(files, **config):
        files = {"data.csv": files} if isinstance(files, str | bytes) else files
        folder = tmp_path / "table"
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        path = folder / next(iter(files)) if len(files) == 1 else folder
        return Csv(str(path), Csv.Config(**config))

    return put


def read(source):
    """All examples as plain values, through tf.data; classes by name."""
    classes = source.info().classes
    examples = []
    for example in tf.data.Dataset.range(source.info().size).map(source.example):
        values = {name: value.numpy() for name, value in example.items()}
        values = {name: v.decode() if isinstance(v, bytes) else v for name, v in values.items()}
        if "label" in values:
            values["label"] = classes[values["label"]]
        examples.append(values)
    return examples


def texts(source):
    return [example["text"] for example in read(source)]


def test_header_and_classes(put):
    source = put("id,Sentence,label\n1,good film,pos\n2,bad film,neg\n3,fine,pos\n")
    info = source.info()
    assert info.features == {"text": "text", "label": "class"} and info.classes == ("neg", "pos") and info.size == 3
    assert info.notes == ("data.csv: column Sentence is the text, column label the label.",)
    assert read(source)[1] == {"text": "bad film", "label": "neg"}
    index = source.index()
    assert index.names == ["data.csv:2", "data.csv:3", "data.csv:4"] and index.splits == [""] * 3
    assert index.labels.dtype == np.int64 and index.labels.tolist() == [1, 0, 1]
    spec = tf.data.Dataset.range(3).map(source.example).element_spec
    assert spec == {"text": tf.TensorSpec([], tf.string), "label": tf.TensorSpec([], tf.int64)}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiters_quotes_and_line_ends(put, delimiter, end):
    rows = [["text", "label"], ['He said "no", twice; a|b', "x"], ["two\nlines" if delimiter != "\t" else "one", "y"]]
    rows += [["", "x"], ["nul \0 in it, ü 😀", "y"]]
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator=end).writerows(rows)
    source = put(file.getvalue() + end + end, delimiter="|" if delimiter == "|" else "auto")
    assert texts(source) == [row[0] for row in rows[1:]]
    assert source.index().names[2] == ("data.csv:4" if delimiter == "\t" else "data.csv:5")


def test_byte_order_mark_and_empty_lines(put):
    source = put(b"\xef\xbb\xbftext,label\n\na,1\n\r\n\nb,2\n")
    assert texts(source) == ["a", "b"] and source.index().names == ["data.csv:3", "data.csv:6"]


def test_a_cell_longer_than_the_csv_modules_limit(put):
    csv.field_size_limit(131_072)
    source = put(f'text,label\n"{"x" * 200_000}",a\nb,b\n')
    assert len(texts(source)[0]) == 200_000
    assert csv.field_size_limit() == 131_072


GLUE = 'it is " odd\t0\n"lone quote at the start\t1\nand one "more\t0\n"whole"\t1\nends with one"\t0\n'


def test_a_lone_quote_in_a_tsv_file_is_text(put):
    source = put({"data.tsv": GLUE})
    wanted = ['it is " odd', '"lone quote at the start', 'and one "more', '"whole"', 'ends with one"']
    assert texts(source) == wanted
    assert texts(put({"sniffed.txt": GLUE})) == wanted


@pytest.mark.parametrize("text", ['"a" or "b"', '"', '"a"b"'])
def test_quotes_that_are_no_csv_quotes_are_text_in_tsv(put, text):
    assert texts(put({"data.tsv": f"{text}\t0\nother\t1\n"})) == [text, "other"]


def test_quotes_in_a_tsv_file_count_where_all_are_closed(put):
    assert texts(put({"data.tsv": '"say ""yes"""\t0\nplain "x" inside\t1\n'})) == ['say "yes"', 'plain "x" inside']


def test_header_less(put):
    source = put({"data.tsv": "good\t1\nbad\t0\n"})
    assert read(source) == [{"text": "good", "label": "1"}, {"text": "bad", "label": "0"}]
    assert source.index().names[0] == "data.tsv:1"
    many = "x,label me,10,z\ny,other,9,z\n"
    with pytest.raises(UserError, match=r"Columns are 1 \(x\), 2 \(label me\), 3 \(10\), 4 \(z\); write --data\.text="):
        put(many).info()
    assert read(put(many, text="2", label="3"))[0] == {"text": "label me", "label": "10"}
    with pytest.raises(UserError, match=r"which column is the label\?"):
        put(many, text="2").info()
    assert put(many, text="2", label="none").info().features == {"text": "text"}


def test_a_known_name_that_comes_again_is_no_header(put):
    rows = "How are you?\tquestion\nFine.\tanswer\nWho?\tquestion\nMe.\tanswer\n"
    assert put({"a.tsv": rows}).info().size == 4
    assert put({"a.tsv": "text\tclass\n" + rows}).info().size == 4
    assert put("a,label\nb,x\nc,y\n").info().size == 2


def test_files_that_were_put_together_have_their_header_again(put):
    source = put("text,label\na,x\nb,y\n" * 2)
    assert texts(source) == ["a", "b", "a", "b"] and source.info().classes == ("x", "y")
    assert source.index().names[2] == "data.csv:5"


@pytest.mark.parametrize(
    ("tokens", "tags"),
    [
        ("New York , too", "B-LOC I-LOC O O"),
        ('["New", "York", ",", "too"]', '["B-LOC", "I-LOC", "O", "O"]'),
        ("['New', 'York', ',', 'too']", "[1, 2, 0, 0]"),
        ("""['New' "York"   ',' 'too']""", "[1 2 0 0]"),
    ],
)
def test_tokens_and_tags(put, tokens, tags):
    rows = "id\ttokens\tner_tags\n" + f"1\t{tokens}\t{tags}\n2\t[ Rome\tO B-LOC\n".replace(
        "O B-LOC", "0 1" if "1" in tags else "O B-LOC"
    )
    names = ("O", "B-LOC", "I-LOC") if "1" in tags else ()
    source = put({"a.tsv": rows}, tokens="tokens", tags="ner_tags", tag_names=names)
    found = [
        (row["text"].decode(), [source.info().classes[tag] for tag in row["tags"]])
        for row in tf.data.Dataset.range(2).map(source.example).as_numpy_iterator()
    ]
    assert found == [("New York , too", ["B-LOC", "I-LOC", "O", "O"]), ("[ Rome", ["O", "B-LOC"])]
    with pytest.raises(UserError, match=r"--data.tags=nertags is not a column; columns are id, tokens, ner_tags"):
        put({"a.tsv": rows}, tokens="tokens", tags="nertags").info()


def test_tokens_and_tags_without_a_header(put):
    source = put({"a.tsv": "a b\tO O\nc\tB-X\n"}, tokens="1", tags="2")
    assert source.info().size == 2 and source.info().classes == ("O", "B-X")
    headed = put({"a.tsv": "words\tpos\na b\tO O\nc\tB-X\n"}, tokens="1", tags="2")
    assert headed.info().size == 2 and headed.info().classes == ("O", "B-X")


def test_questions_without_answers_say_how_they_are_named(put):
    with pytest.raises(UserError, match=r"--data.text=question, --data.text_pair=context and --data.label=none, or"):
        put("id,question,context\n1,q,c\n").info()


def test_header_said_and_seen(put):
    table = "Phrase,Rating\na,5\nb,3\nc,5\nd,3\n"
    with pytest.raises(UserError, match=r"first row looks like a header \(Phrase, Rating\); write --data.header=yes"):
        put(table).info()
    assert put(table, header="yes").info().size == 4
    assert put(table, text="phrase", label="Rating").info().classes == ("3", "5")
    assert put(table, header="no").info().size == 5
    with pytest.raises(UserError, match="looks like a header"):
        put("Phrase,Rating\na,5.5\nb,3.25\nc,1.5\n").info()
    assert put("text,label\na,b\n", header="no").info().classes == ("b", "label")
    with pytest.raises(ValueError, match="header: no leaves columns without names"):
        Csv.Config(header="no", text="Phrase")


def test_wrong_columns(put):
    with pytest.raises(UserError, match=r"data.csv: --data.text=body is not a column; columns are text, label\."):
        put("text,label\na,b\n", text="body").info()
    with pytest.raises(UserError, match="2 columns called label"):
        put("text,label,label\na,b,c\n").info()
    with pytest.raises(UserError, match=r"which column is the text\? Columns are a, b, label"):
        put("a,b,label\na,b,c\n").info()


def test_pairs(put):
    source = put("idx\tquestion1\tquestion2\tis_duplicate\n0\tab\tc\t1\n1\ta\tbc\t0\n".replace("\t", ","))
    assert read(source)[0] == {"text": "ab", "text_pair": "c", "label": "1"}
    assert len(set(source.digests())) == 2  # "ab" + "c" is not "a" + "bc"
    assert read(put("x,y,label\na,b,1\nc,d,2\n", text="x", text_pair="y"))[1] == {
        "text": "c",
        "text_pair": "d",
        "label": "2",
    }


def test_numeric_names_are_sorted_by_value(put):
    assert put("a,10\nb,9\nc,-1\n").info().classes == ("-1", "9", "10")
    assert put("a,10\nb,9\nc,x\n").info().classes == ("10", "9", "x")
    assert put("a,caf\u00e9\nb,cafe\u0301 \nc,x\n").info().classes == ("caf\u00e9", "x")


def test_numbers(put):
    source = put("text,label\na,0.5\nb,2\nc,-3e1\n")
    assert source.info().features == {"text": "text", "target": "number"} and source.info().classes == ()
    assert source.index().labels is None
    assert [example["target"].tolist() for example in read(source)] == [[0.5], [2.0], [-30.0]]
    assert any("numbers with fractions" in note for note in source.info().notes)
    assert put("text,label\na,0.5\nb,2\n", label_type="class").info().classes == ("0.5", "2")
    several = put("text,x,y\na,0.5,2\nb,3,4\n", label=("x", "y"))
    assert [example["target"].tolist() for example in read(several)] == [[0.5, 2.0], [3.0, 4.0]]
    assert read(several)[0]["target"].dtype == np.float32
    for bad in ("high", "1_000", "nan", "1,5"):
        with pytest.raises(UserError, match=rf"data\.csv:3: in the column label, {bad} is not a number"):
            put(f'text,label\na,1\nb,"{bad}"\n', label_type="number").info()


def test_several_classes(put):
    columns = put("text,b,a\nx,0,1\ny,1,1\nz,0,0\n", label=("b", "a"))
    assert columns.info().features == {"text": "text", "labels": "classes"} and columns.info().classes == ("b", "a")
    assert [example["labels"].tolist() for example in read(columns)] == [[0, 1], [1, 1], [0, 0]]
    cells = put("text,label\nx,cat | dog\ny,\nz,dog|eel\n", label_type="multi")
    assert cells.info().classes == ("cat", "dog", "eel")
    assert [example["labels"].tolist() for example in read(cells)] == [[1, 1, 0], [0, 0, 0], [0, 1, 1]]
    assert read(cells)[0]["labels"].dtype == np.float32
    with pytest.raises(UserError, match=r"data\.csv:3: in the column b, a, 2 in the column b is not 0 or 1"):
        put("text,b,a\nx,0,1\ny,2,1\n", label=("b", "a"), label_type="multi").info()


def test_folder_of_splits(put):
    source = put({"train.tsv": "a\t0\nb\t1\n", "dev.tsv": "c\t0\n", "test.tsv": "d\t1\n", "notes.tsv": "x\n"})
    assert source.index().splits == ["train", "train", "validation", "test"]
    assert source.index().names == ["train.tsv:1", "train.tsv:2", "dev.tsv:1", "test.tsv:1"]
    assert source.info().notes[0] == "Ignored, because their names say no split: notes.tsv."
    splits = split(source.index(), source.digests(), Input(), classes=source.info().classes)
    assert [splits.train.tolist(), splits.validation.tolist(), splits.test.tolist()] == [[0, 1], [2], [3]]


@pytest.mark.parametrize(
    "test", ["index\tsentence\n0\td\n", "sentence\tlabel\nd\t-1\ne\t-1\n", "sentence\tlabel\nd\t\n"]
)
def test_a_test_file_without_labels_is_left_out(put, test):
    source = put({"train.tsv": "sentence\tlabel\na\t0\nb\t1\n", "test.tsv": test})
    assert source.info().size == 2 and source.info().classes == ("0", "1") and texts(source) == ["a", "b"]
    assert "test.tsv has no labels and is left out." in source.info().notes
    assert len(source.digests()) == 2


def test_further_files_have_the_columns_of_the_first(put):
    source = put({"train.csv": "text,rating\na,1\nb,2\n", "test.csv": "rating,text,id\n2,c,7\n"})
    assert read(source)[2] == {"text": "c", "label": "2"}
    with pytest.raises(UserError, match="which column is the text"):
        put({"train.csv": "text,label\na,1\nb,2\n", "test.csv": "x,y,label\n2,c,1\n"}).info()
    with pytest.raises(UserError, match=r"test\.csv has other columns than train\.csv"):
        put({"train.csv": "text,text_pair,label\na,b,1\nb,c,2\n", "test.csv": "text,label\nc,1\n"}).info()


def test_minus_one_is_a_class_where_train_has_it(put):
    source = put({"train.csv": "a,1\nb,-1\n", "test.csv": "c,-1\n"})
    assert source.info().size == 3 and source.info().classes == ("-1", "1")


def test_no_labels(put):
    source = put("text\nhello\n")
    assert source.info().features == {"text": "text"} and source.index().labels is None
    assert read(source) == [{"text": "hello"}]
    with pytest.raises(UserError, match="label is empty in every row"):
        put("text,label\na,\nb,\n").info()
    with pytest.raises(
        UserError, match=r"3 rows have no label in the column label: data.csv:2, data.csv:4, data.csv:5;"
    ):
        put("text,label\na,\nb,x\nc, \nd,\ne,y\n").info()


def test_refused(put, tmp_path):
    for table, message in {
        "": "data.csv is empty",
        "\n\r\n": "data.csv is empty",
        "text,label\n": "data.csv holds no rows",
        "text,label\na,x\nb,c,y\n": r"data\.csv:3 has 3 columns where the first line has 2, separated by comma",
        'text,label\na,x\n"never closed,y\nc,z\n': r"data\.csv:3: unexpected end of data",
        'text,label\n"a" b,x\nc,z\n': r"data\.csv:2: ',' expected after '\"'",
    }.items():
        with pytest.raises(UserError, match=message):
            put(table).info()
    with pytest.raises(UserError, match=r"data\.tsv:2 has 1 column where.*quotes are text here"):
        put({"data.tsv": '"a\t0\nb"\nc\t1\n'}).info()
    with pytest.raises(UserError, match=r"there is no .*tabel; did you mean table\?"):
        Csv(str(tmp_path / "tabel")).info()
    with pytest.raises(UserError, match="needs a path"):
        Csv("").info()
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match=r"has no file that ends with \.csv"):
        Csv(str(tmp_path / "nothing")).info()


def test_not_utf8(put):
    with pytest.raises(UserError, match=r"data\.csv:3: byte 17 of the file \(0xfc\) is not UTF-8; save the file"):
        put(b"text,label\nab,x\nf\xfcr,y\n").info()
    with pytest.raises(UserError, match=r"data\.csv:1: byte 4 of"):
        put(b"\xef\xbb\xbft\xfcxt,label\n").info()
    with pytest.raises(UserError, match=r"data\.csv:1: byte 0 .* UTF-16"):
        put("text,label\na,x\n".encode("utf-16")).info()


def test_one_class_only_is_for_tasks_to_refuse(put):
    assert put("text,label\na,x\nb,x\n").info().classes == ("x",)


def test_digests_are_of_the_text_alone(put):
    one, other = put({"a.csv": "text,label\na,x\nb,y\n"}), put({"b.csv": "label,id,text\nz,1,b\nw,2,c\n"})
    assert one.digests()[1] == other.digests()[0] and len({*one.digests(), *other.digests()}) == 3


def test_pictures(put, tmp_path):
    folder = tmp_path / "table"
    folder.mkdir()
    for name, value in {"a.png": 0, "b c.png": 99}.items():
        Image.fromarray(np.full((9, 9, 3), value, np.uint8)).save(folder / name)
    (folder / "same.png").write_bytes((folder / "a.png").read_bytes())
    source = put("path,label\na.png,dark\nb c.png,bright\ngone.png,dark\nsame.png,dark\n")
    assert source.info().features == {"image": "image", "label": "class"}
    assert source.example(1)["image"].numpy() == (folder / "b c.png").read_bytes()
    digests = source.digests()
    assert digests[0] == digests[3] and len(set(digests)) == 3
    prepared = Prepared(source, (), threads=1)
    assert [bool(prepared.read(tf.constant(k, tf.int64))[2]) for k in range(4)] == [True, True, False, True]
    assert put("a.png,x\nb c.png,y\n").info().features == {"image": "image", "label": "class"}
    both = put("text,file,label\nq,a.png,x\nr,a.png,y\nr,same.png,x\n", text="text", image="file")
    assert set(both.info().features) == {"text", "image", "label"}
    assert both.digests()[0] != both.digests()[1] == both.digests()[2] != digests[0]


def test_texts_beyond_the_memory_limit_come_from_a_file(put, tmp_path, monkeypatch):
    table = "".join(f"{'text ' * (k % 7)}{k} ü,{k % 2}\n" for k in range(200)) + ",0\n"
    wanted = texts(put({"small.csv": table}))
    monkeypatch.setattr(_texts, "MEMORY", 300)
    source = put({"large.csv": table})
    assert not isinstance(source.table.inputs["text"].content, bytes)
    assert texts(source) == wanted and wanted[-1] == "" and len(wanted) == 201
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize(
    ("field", "value"), [("delimiter", "::"), ("delimiter", '"'), ("label", ("auto", "x")), ("label_separator", "")]
)
def test_settings_that_make_no_sense(field, value):
    with pytest.raises(ValueError, match=f"{field}: "):
        Csv.Config(**{field: value})


def test_a_text_file_beside_tables_is_a_note(put):
    assert put({"data.csv": "text,label\na,x\nb,y\n", "README.txt": "About.\n"}).info().size == 2


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"train.csv": "a,x\nb,y\n", "test.txt": "c,x\n", "README.txt": "About.\n"}, ["train", "train", "test"]),
        ({"train.txt": "a,x\nb,y\n", "test.txt": "c,x\n", "mapping.csv": "1,2,3\n"}, ["train", "train", "test"]),
        ({"data.csv": "a,x\nb,y\n", "test.txt": "17\n"}, ["", ""]),
    ],
)
def test_text_files_of_splits_count(put, files, wanted):
    assert put(files).index().splits == wanted
