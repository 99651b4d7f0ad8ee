from tfpt.evaluation.marks import ALL, Mark, pieces


def said(found):
    return [(piece.text, piece.kinds, [mark.label for mark in piece.ended]) for piece in found]


def test_a_text_is_cut_where_marks_begin_and_end():
    marks = [Mark(start=2, end=5, kind="true", label="is"), Mark(start=4, end=7, kind="wrong", label="called")]
    assert said(pieces("abcdefgh", marks)) == [
        ("ab", (), []),
        ("cd", ("true",), []),
        ("e", ("true", "wrong"), ["is"]),
        ("fg", ("wrong",), ["called"]),
        ("h", (), []),
    ]
    assert said(pieces("ab", [])) == [("ab", (), [])]
    assert pieces("", []) == []


def test_of_a_long_text_what_is_around_the_marks_is_shown():
    text = "".join(f"word{k} " for k in range(400))
    start = text.index("word200")
    found = pieces(text, [Mark(start=start, end=start + 7, kind="true", label="is")])
    before, marked, after = (piece.text for piece in found)
    assert before.startswith("…") and text[:start].endswith(before.removeprefix("… ")) and len(before) < 200
    assert marked == "word200"
    assert after.endswith("…") and text[start + 7 :].startswith(after.removesuffix(" …")) and len(after) < 200
    assert [piece.text for piece in pieces(text, [])] == [text[: ALL - 1].rstrip() + "…"]
    beginning = pieces(text, [Mark(start=0, end=5, kind="true"), Mark(start=10, end=15, kind="true")])
    assert [piece.text for piece in beginning[:3]] == [text[:5], text[5:10], text[10:15]]
