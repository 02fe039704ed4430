"""Settings that make every large part of a model small enough for a test, and captions to learn from."""

_LAYERS = "hidden_size: 16, intermediate_size: 32, num_hidden_layers: 2, num_attention_heads: 2"
_VIT = f"{{{_LAYERS}, image_size: 32, patch_size: 16"
_SPEECH = (
    f"{{{_LAYERS}, "
    "conv_dim: [8, 8], conv_kernel: [40, 10], conv_stride: [20, 16], num_conv_pos_embeddings: 8, "
    "num_conv_pos_embedding_groups: 2, num_feat_extract_layers: 2}"
)
_PE = f"{_LAYERS}, head_dim: 8"
_BLOCK = "num_heads: 1, kernel_q: [3, 3, 3], kernel_kv: [3, 3, 3], stride_kv: [1, 2, 2]"
SMALL = {  # settings that make a large part small, whatever it is made for
    "visual=vit": (
        "architecture={patch_size: 16, num_layers: 2, num_heads: 2, hidden_dim: 16, mlp_dim: 32}",
        "size=32",
    ),
    "visual=resnet": ("name=resnet", "architecture={layers: [1, 1, 1, 1]}", "size=64"),
    "visual=swin3d": (
        "name=swin3d",
        "architecture={patch_size: [2, 4, 4], embed_dim: 8, depths: [1, 1], num_heads: [1, 2], window_size: [2, 2, 2]}",
        *("size=16", "window=4"),
    ),
    "visual=mvit": (
        "name=mvit",
        f"architecture={{block_setting: [{{input_channels: 8, output_channels: 8, stride_q: [1, 1, 1], {_BLOCK}}}, "
        f"{{input_channels: 8, output_channels: 16, stride_q: [1, 2, 2], {_BLOCK}}}], residual_pool: true, "
        "residual_with_cls_embed: false, rel_pos_embed: true, proj_after_attn: true}",
        *("size=32", "window=4"),
    ),
    "visual=r2plus1d": ("name=r2plus1d", "architecture={layers: [1, 1, 1, 1]}", "size=32", "window=8"),
    "visual=timm": ("name=test_vit", "size=32"),
    "visual=efficientnet_lite0": ("size=64",),
    "visual=clip": (f"architecture={_VIT}}}",),
    "visual=siglip": (f"architecture={_VIT}}}",),
    "visual=siglip2": (f"architecture={_VIT.replace('image_size: 32', 'num_patches: 4')}}}",),
    "visual=dinov3": (f"architecture={_VIT}, num_register_tokens: 2}}",),
    "visual=videomae": (f"architecture={_VIT}, num_frames: 4, tubelet_size: 2}}",),
    "visual=pe_video": (
        f"architecture={{{_PE}, vision_config: {{architecture: test_vit, num_classes: 16, global_pool: token, "
        "do_pooling: true, model_args: {img_size: 32}}}",
    ),
    "audio=ast": (
        f"architecture={{{_LAYERS}, num_mel_bins: 32, max_length: 96}}",
        "window_s=null",
    ),
    "audio=whisper": (
        "architecture={d_model: 16, encoder_layers: 2, encoder_attention_heads: 2, encoder_ffn_dim: 32, "
        "num_mel_bins: 16, max_source_positions: 16}",
        "window_s=null",
    ),
    "audio=clap": (
        "architecture={patch_embeds_hidden_size: 8, depths: [1, 1], num_attention_heads: [1, 2], hidden_size: 16}",
    ),
    "audio=wav2vec2": (f"architecture={_SPEECH}", "window_s=0.32"),
    "audio=torchaudio": (
        "name=wav2vec2",
        "architecture={extractor_mode: layer_norm, extractor_conv_layer_config: [[8, 40, 20], [8, 10, 16]], "
        "extractor_conv_bias: true, encoder_embed_dim: 16, encoder_projection_dropout: 0.0, "
        "encoder_pos_conv_kernel: 8, "
        "encoder_pos_conv_groups: 2, encoder_num_layers: 2, encoder_num_heads: 2, encoder_attention_dropout: 0.0, "
        "encoder_ff_interm_features: 32, encoder_ff_interm_dropout: 0.0, encoder_dropout: 0.0, "
        "encoder_layer_norm_first: true, encoder_layer_drop: 0.0}",
        "window_s=0.32",
    ),
    "audio=spectrogram": ("width=16", "layers=2", "heads=2", "patch=4"),
    "captions=hf": ("architecture={n_layer: 2, n_head: 2, n_embd: 16, n_positions: 64}",),
    "audio=pe_audio": (
        f"architecture={{{_PE}, dac_config: {{encoder_hidden_size: 4, downsampling_ratios: [2, 8, 10, 12], "
        "codebook_dim: 8, hidden_size: 64}}",
        "window_s=2.0",
    ),
}

CAPTIONS = ("a red dog barks", "rain on a roof", "two people talk", "a bell rings twice")
