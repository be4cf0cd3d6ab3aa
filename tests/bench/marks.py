"""Tables between two marks of a page."""


def put(path, marks, text):
    """Replace what stands between the marks (begin, end) of the file."""
    with open(path) as f:
        before, rest = f.read().split(marks[0])
    with open(path, "w") as f:
        f.write(before + marks[0] + "\n\n" + text + "\n" + marks[1] + rest.split(marks[1])[1])
