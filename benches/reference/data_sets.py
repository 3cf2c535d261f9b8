"""Tiny data sets as their usual tools write them, in one zip: `python data_sets.py OUT.zip` (requirements.txt).

Image k is flat, of 8 x 8 pixels (SVHN and arrays: 4 x 4), with red 10 + 5 k, green 250 - 5 k and blue 37 k mod 256, as
PNG wherever files are asked for; their names end as the data set's do.
"""

import gzip
import io
import json
import os
import sys
import tarfile
import tempfile
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io
from PIL import Image

FIXED = (2020, 1, 1, 0, 0, 0)


def colour(k):
    return 10 + 5 * k, 250 - 5 * k, 37 * k % 256


def pixels(k, side=8):
    return np.broadcast_to(np.uint8(colour(k)), (side, side, 3)).copy()


def png(k):
    out = io.BytesIO()
    Image.fromarray(pixels(k)).save(out, "PNG")
    return out.getvalue()


def put(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


def tar(members, mode="w", form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=form) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def tgz(members):
    return gzip.compress(tar(members), mtime=0)


def zipped(members, kind=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name, FIXED), content, kind)
    return out.getvalue()


def mat(compressed, **variables):
    out = io.BytesIO()
    scipy.io.savemat(out, variables, do_compression=compressed)
    # The head has the time of day.
    content = bytearray(out.getvalue())
    content[:116] = b"MATLAB 5.0 MAT-file, by scipy.io.savemat".ljust(116)
    return bytes(content)


SYNSETS = ["n01440764", "n01443537", "n02102040"]


def imagenet(root):
    trains = []
    for c, synset in enumerate(SYNSETS):
        members = [(f"{synset}_{i}.JPEG", png(4 * c + i)) for i in (0, 1, 2, 3)]
        trains.append((f"{synset}.tar", tar(members, form=tarfile.GNU_FORMAT)))
    put(f"{root}/ILSVRC2012_img_train.tar", tar(trains, form=tarfile.GNU_FORMAT))
    vals = [(f"ILSVRC2012_val_{n:08}.JPEG", png(11 + n)) for n in (3, 1, 2, 4)]
    put(f"{root}/ILSVRC2012_img_val.tar", tar(vals, form=tarfile.USTAR_FORMAT))
    # The devkit's numbers are in no order of names, and go on with synsets above those of the images.
    numbers = [(2, "n01440764", "tench, Tinca tinca"), (3, "n01443537", "goldfish, Carassius auratus"),
               (1, "n02102040", "English springer"), (4, "n00001740", "entity")]
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O"),
            ("children", "O"), ("wordnet_height", "O"), ("num_train_images", "O")]
    synsets = np.zeros((len(numbers), 1), dtype=kind)
    for row, (number, wnid, words) in enumerate(numbers):
        children = np.array([[1.0, 2.0, 3.0]]) if wnid == "n00001740" else np.zeros((1, 0))
        synsets[row, 0] = (float(number), wnid, words, "of a kind", float(children.size), children, 0.0, 4.0)
    truth = "2\n3\n1\n2\n".encode()
    kit = "ILSVRC2012_devkit_t12"
    put(f"{root}/{kit}.tar.gz", tgz([
        (f"{kit}/", None), (f"{kit}/data/", None), (f"{kit}/data/meta.mat", mat(True, synsets=synsets)),
        (f"{kit}/data/ILSVRC2012_validation_ground_truth.txt", truth), (f"{kit}/readme.txt", b"words"),
    ]))
    put("plain/meta.mat", mat(False, synsets=synsets))


def tiny_imagenet(root):
    top = "tiny-imagenet-200"
    members = [(f"{top}/wnids.txt", b"n02102040\nn01440764\n"),
               (f"{top}/words.txt", b"n01440764\ttench, Tinca tinca\nn02102040\tEnglish springer\nn00001740\tentity\n")]
    for c, synset in enumerate(["n01440764", "n02102040"]):
        members.append((f"{top}/train/{synset}/{synset}_boxes.txt", f"{synset}_0.JPEG\t0\t0\t7\t7\n".encode()))
        members += [(f"{top}/train/{synset}/images/{synset}_{i}.JPEG", png(4 * c + i)) for i in range(4)]
    members += [(f"{top}/val/images/val_{i}.JPEG", png(8 + i)) for i in range(3)]
    classes = ["n02102040", "n01440764", "n02102040"]
    lines = [f"val_{i}.JPEG\t{synset}\t0\t0\t7\t7\n" for i, synset in enumerate(classes)]
    members.append((f"{top}/val/val_annotations.txt", "".join(lines).encode()))
    members += [(f"{top}/test/images/test_{i}.JPEG", png(11 + i)) for i in range(2)]
    put(f"{root}/{top}.zip", zipped(members))


def imagenette(root):
    members = [("imagenette2-160/", None), ("imagenette2-160/.DS_Store", b"x"),
               ("imagenette2-160/noisy_imagenette.csv", b"path,noisy_labels_0\ntrain/x,n01440764\n")]
    for part, first in (("train", 0), ("val", 8)):
        for c, synset in enumerate(["n03888257", "n01440764"]):
            members += [(f"./imagenette2-160/{part}/{synset}/{synset}_{i}.JPEG", png(first + 4 * c + i))
                        for i in range(4)]
    members.append(("imagenette2-160/train/n01440764/link.JPEG", "n01440764_0.JPEG"))
    put(f"{root}/imagenette2-160.tgz", tgz(members))


def webdataset(root):
    long = "a folder with a long name/" * 8
    first = []
    for k in range(3):
        first += [(f"{long}{k:04}.jpg", png(k)), (f"{long}{k:04}.cls", str(k % 2).encode())]
    put(f"{root}/train-000000.tar", tar(first))
    second = []
    for k in range(3, 6):
        second += [(f"s.d/{k:04}.json", json.dumps({"label": k % 2, "caption": "an image"}).encode()),
                   (f"s.d/{k:04}.seg.png", b"of the same key"), (f"s.d/{k:04}.PNG", png(k))]
    put(f"{root}/train-000001.tar", tar(second, form=tarfile.GNU_FORMAT))
    put(f"{root}/val/000000.tar.gz", tgz([("k.jpeg", png(6)), ("k.cls", b"1\n"), ("l.jpeg", png(7)), ("l.cls", b"0")]))
    put(f"{root}/classnames.txt", b"cat\ndog\n")


def parquet(root):
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("label", pa.int64())], metadata=metadata)

    def table(ks, labels):
        images = [{"bytes": png(k), "path": f"{k}.png"} for k in ks]
        return pa.table({"image": pa.array(images, image), "label": pa.array(labels, pa.int64())}, schema=schema)

    options = {
        "snappy": {}, "zstd": {"compression": "zstd", "data_page_version": "2.0"},
        "gzip": {"compression": "gzip", "use_dictionary": False, "write_page_checksum": True},
        "none": {"compression": "none", "data_page_version": "2.0", "use_dictionary": False},
    }
    for name, option in options.items():
        def write(file, ks, labels):
            path = f"{root}_{name}/data/{file}"
            os.makedirs(os.path.dirname(path), exist_ok=True)
            pq.write_table(table(ks, labels), path, row_group_size=3, data_page_size=200, **option)
        write("train-00000-of-00002.parquet", range(5), [0, 1, 0, 1, 0])
        write("train-00001-of-00002.parquet", range(5, 8), [1, 1, 0])
        write("test-00000-of-00001.parquet", range(8, 12), [1, 0, -1, None])
    # Other columns' names and a nullable struct, as the first CIFAR sets have them; text as labels.
    images = pa.array([{"bytes": png(k), "path": None} for k in range(4)] + [None, {"bytes": None, "path": "x.png"}],
                      image)
    labels = pa.array(["zebra", "ant", "zebra", "ant", "ant", "zebra"])
    os.makedirs(f"{root}_other", exist_ok=True)
    pq.write_table(pa.table({"id": pa.array(range(6)), "img": images, "label": labels}),
                   f"{root}_other/train.parquet", compression="snappy")
    os.makedirs(f"{root}_brotli", exist_ok=True)
    pq.write_table(table(range(2), [0, 1]), f"{root}_brotli/train.parquet", compression="brotli")


def arrays(root):
    stack = np.stack([pixels(k, 4) for k in range(10)])
    labels = np.array([7, 3, 7, 3, 7, 3, 7, 3, 7, 3])
    os.makedirs(f"{root}_npz", exist_ok=True)
    np.savez(f"{root}_npz/set.npz", x_train=stack[:6], y_train=labels[:6], x_test=stack[6:], y_test=labels[6:])
    os.makedirs(f"{root}_medmnist", exist_ok=True)
    np.savez_compressed(f"{root}_medmnist/set.npz", train_images=stack[:6, ..., 0], train_labels=labels[:6, None],
                        val_images=stack[6:8, ..., 0], val_labels=labels[6:8, None], test_images=stack[8:, ..., 0],
                        test_labels=labels[8:, None].astype(np.uint8))
    os.makedirs(f"{root}_npy", exist_ok=True)
    np.save(f"{root}_npy/images.npy", stack.transpose(0, 3, 1, 2).copy())
    np.save(f"{root}_npy/labels.npy", labels.astype(">i4"))


def svhn(root):
    for name, ks, compressed in (("train", range(20), True), ("test", range(20, 23), False)):
        images = np.stack([pixels(k, 4) for k in ks], axis=-1)
        # Another colour in row 1, column 2.
        images[1, 2] = 1
        labels = np.array([k % 10 or 10 for k in ks], dtype=np.uint8)[:, None]
        put(f"{root}/{name}_32x32.mat", mat(compressed, X=images, y=labels))


def stimuli(root):
    rows = [("im_c", "set/c.png", "dog"), ("im_a", "set/a.png", "cat"), ("im_b", "set/b.png", "dog"),
            ("im_d", "set/d.png", "cat"), ("im_e", "set/e.png", "cat"), ("im_f", "set/f.png", "dog")]
    table = pd.DataFrame(rows, columns=["stimulus_id", "filename", "object_name"])
    table["rxy"] = 0.5
    put(f"{root}/stimulus_set.csv", table.to_csv(index=False).encode())
    members = [(f"set/{name}.png", png(k)) for k, name in enumerate("abcdefg")]
    put(f"{root}/stimulus_set.zip", zipped(members, zipfile.ZIP_STORED))


def main():
    out = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        imagenet("imagenet")
        tiny_imagenet("tiny_imagenet")
        imagenette("imagenette")
        webdataset("webdataset")
        parquet("parquet")
        arrays("arrays")
        svhn("svhn")
        stimuli("stimuli")
        files = sorted(os.path.join(above, name) for above, _, names in os.walk(".") for name in names)
        members = [(os.path.relpath(path), open(path, "rb").read()) for path in files]
        with open(out, "wb") as file:
            file.write(zipped(members))


if __name__ == "__main__":
    main()
