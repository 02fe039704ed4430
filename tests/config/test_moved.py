"""Configs of earlier runs name classes by the modules in which they stood then."""

from collections import Counter

import pytest
from hydra.utils import get_object

from mmattn.config.compose import build
from mmattn.config.moved import present_target
from mmattn.config.targets import packaged_targets


@pytest.mark.parametrize(
    "then",
    [
        "mmattn.attention.additive.AdditiveAttention",
        "mmattn.attention.blockwise.BigBird",
        "mmattn.attention.blockwise.TopKBlocks",
        "mmattn.attention.dense.DenseAttention",
        "mmattn.attention.exact.ExactAttention",
        "mmattn.attention.gated.GatedLinearAttention",
        "mmattn.attention.grouped.LSH",
        "mmattn.attention.grouped.Routing",
        "mmattn.attention.hierarchical.CoarseFineAttention",
        "mmattn.attention.latents.LatentAttention",
        "mmattn.attention.linear.LinearAttention",
        "mmattn.attention.linear.PerformerAttention",
        "mmattn.attention.lowrank.LinformerAttention",
        "mmattn.attention.lowrank.NystromAttention",
        "mmattn.attention.normalisers.Entmax",
        "mmattn.attention.normalisers.Sigmoid",
        "mmattn.attention.patterns.DilatedWindow",
        "mmattn.attention.patterns.SlidingWindow",
        "mmattn.attention.patterns.Strided",
        "mmattn.attention.patterns.TimeWindow",
        "mmattn.attention.places.DilatedWindow",
        "mmattn.attention.places.SlidingWindow",
        "mmattn.attention.places.Strided",
        "mmattn.attention.recurrent.GRUAdditiveAttention",
        "mmattn.attention.recurrent.GRUAttention",
        "mmattn.attention.regularise.Entropy",
        "mmattn.attention.regularise.GroupSparsity",
        "mmattn.attention.regularise.Hoyer",
        "mmattn.attention.regularise.Price",
        "mmattn.attention.scores.Cosine",
        "mmattn.attention.scores.Gaussian",
        "mmattn.attention.token_merging.TokenMergingAttention",
        "mmattn.data.adapters.audiocaps.AudioCapsSource",
        "mmattn.data.adapters.audioset.AudioSetSource",
        "mmattn.data.adapters.ave.AVESource",
        "mmattn.data.adapters.coco.COCOSource",
        "mmattn.data.adapters.crema_d.CremaDSource",
        "mmattn.data.adapters.grid.GRIDSource",
        "mmattn.data.adapters.kinetics.KineticsSource",
        "mmattn.data.adapters.msrvtt.MSRVTTSource",
        "mmattn.data.adapters.vatex.VATEXSource",
        "mmattn.data.adapters.vggsound.VGGSoundSource",
        "mmattn.data.augment.Augment",
        "mmattn.data.features.FeatureSource",
        "mmattn.data.picture_augment.PictureAugment",
        "mmattn.data.shards.ShardSource",
        "mmattn.data.sound_augment.SoundAugment",
        "mmattn.data.sources.AVShapesSource",
        "mmattn.data.sources.FolderSource",
        "mmattn.data.tokenizer.CaptionTokenizer.learn",
        "mmattn.data.transforms.ClipSpec",
        "mmattn.encoders.audio.ConvAudioEncoder",
        "mmattn.encoders.conv3d.Conv3dEncoder",
        "mmattn.encoders.efficientnet_lite.EfficientNetLite0",
        "mmattn.encoders.hf_frames.PEVideoEncoder",
        "mmattn.encoders.hf_frames.TransformersFrames",
        "mmattn.encoders.hf_frames.VideoMAEEncoder",
        "mmattn.encoders.hf_sounds.ASTEncoder",
        "mmattn.encoders.hf_sounds.CLAPEncoder",
        "mmattn.encoders.hf_sounds.WhisperEncoder",
        "mmattn.encoders.hf_speech.PEAudioEncoder",
        "mmattn.encoders.hf_speech.SpeechEncoder",
        "mmattn.encoders.spectrogram.SpectrogramTransformer",
        "mmattn.encoders.timm_frames.TimmFrames",
        "mmattn.encoders.torchaudio_sounds.TorchaudioEncoder",
        "mmattn.encoders.torchvision_clips.TorchvisionClips",
        "mmattn.encoders.torchvision_frames.TorchvisionFrames",
        "mmattn.encoders.visual.ConvVisualEncoder",
        "mmattn.encoders.yamnet.YAMNetEncoder",
        "mmattn.inference.annotators.captions.Captions",
        "mmattn.inference.annotators.open_tags.OpenTags",
        "mmattn.inference.annotators.sounds.Sounds",
        "mmattn.inference.annotators.things.Things",
        "mmattn.inference.engines.here.LocalEngine",
        "mmattn.inference.writers.coco.COCOCaptions",
        "mmattn.inference.writers.fiftyone.FiftyOne",
        "mmattn.inference.writers.hugging_face.HuggingFace",
        "mmattn.inference.writers.json_lines.JSONLines",
        "mmattn.inference.writers.parquet.Parquet",
        "mmattn.inference.writers.spreadsheet.CSV",
        "mmattn.inference.writers.subtitles.SubRip",
        "mmattn.inference.writers.subtitles.WebVTT",
        "mmattn.inference.writers.tag_rows.TagRows",
        "mmattn.tasks.decoding.Decoding",
        "mmattn.tasks.hf_captioner.LanguageModelCaptioner",
        "mmattn.tasks.hf_captioner.caption_tokenizer",
        "mmattn.tasks.losses.Asymmetric",
        "mmattn.tasks.losses.CrossEntropy",
        "mmattn.tasks.losses.Focal",
        "mmattn.tasks.prompted.PromptedTagging",
        "mmattn.tasks.tagging.Tagging",
        "mmattn.tasks.transformer_captioner.TransformerCaptioner",
        "mmattn.training.average.ExponentialAverage",
        "mmattn.training.average.StochasticAverage",
        "mmattn.training.balance.OgmGe",
        "mmattn.training.balance.UnimodalLosses",
        "mmattn.training.contrastive.Contrastive",
        "mmattn.training.freeze.FreezeEncoders",
        "mmattn.training.launch.Local",
        "mmattn.training.loop.average.ExponentialAverage",
        "mmattn.training.loop.average.StochasticAverage",
        "mmattn.training.loop.balance.OgmGe",
        "mmattn.training.loop.balance.UnimodalLosses",
        "mmattn.training.loop.freeze.FreezeEncoders",
        "mmattn.training.loop.multitask.FixedWeights",
        "mmattn.training.loop.multitask.UncertaintyWeights",
        "mmattn.training.loop.optim.AdamWOneCycle",
        "mmattn.training.loop.self_critical.SelfCritical",
        "mmattn.training.masked.CavMae",
        "mmattn.training.masked.Masked",
        "mmattn.training.multitask.FixedWeights",
        "mmattn.training.multitask.UncertaintyWeights",
        "mmattn.training.optim.AdamWOneCycle",
        "mmattn.training.search.Optuna",
        "mmattn.training.self_critical.SelfCritical",
        "mmattn.training.slurm.Slurm",
        "mmattn.training.synchrony.Synchrony",
        "mmattn.training.torchrun.Torchrun",
    ],
)
def test_names_of_before_are_found_where_the_classes_stand_now(then):
    assert callable(get_object(present_target(then)))
    assert present_target(present_target(then)) == present_target(then)


def test_a_class_name_stands_for_one_class():
    """A second class of the same name would take the place of the first in configs of before."""
    counts = Counter(target.rpartition(".")[2] for target in packaged_targets())
    assert not [name for name, count in counts.items() if count > 1]


@pytest.mark.parametrize("target", ["os.system", "mmattn.data.sources.Nothing", "their_package.Tagging", None, 3])
def test_what_is_no_class_of_ours_stays(target):
    assert present_target(target) == target


def test_a_config_of_before_is_built():
    built = build({"_target_": "mmattn.data.sources.FolderSource", "root": "somewhere"})
    assert type(built).__module__ == "mmattn.data.manifest.sources"
