"""Which containers are read: each on the list by what it holds alone, and what points elsewhere by no name at all."""

from __future__ import annotations

import io
import socket
import threading
from pathlib import Path

import av
import numpy as np
import pytest
from av.format import ContainerFormat
from media_clips import indices, movie, numbered, tone
from PIL import Image

from mmattn.errors import MediaError
from mmattn.media.open.formats import FORMATS
from mmattn.media.read.decode import read_clip
from mmattn.media.survey.probe import probe

# What opens other files, addresses or devices. None of them may ever be on the list.
REACHING = (
    "hls applehttp dash imf concat image2 image2pipe sdp rtsp rtp sap webm_dash_manifest vobsub mlv lavfi x11grab "
    "fbdev kmsgrab alsa oss pulse jack v4l2 video4linux2 openal dshow avfoundation libcdio libgme libopenmpt bluray "
    "tedcaptions avisynth vapoursynth ffmetadata svg_pipe rawvideo data s16le u8 mulaw alaw tty"
).split()


def test_nothing_on_the_list_reaches_beyond_its_own_bytes():
    names = FORMATS.split(",")
    assert len(names) == len(set(names)) and not set(names) & set(REACHING)
    for name in names:
        demuxer = ContainerFormat(name, "r")
        assert demuxer.is_input and not int(demuxer.flags) & 1, f"{name} opens its input by itself"  # AVFMT_NOFILE


PICTURES = [
    ("yuv4mpegpipe", "wrapped_avframe", "yuv420p"),
    ("wtv", "mpeg2video", "yuv420p"),
    ("swf", "flv", "yuv420p"),
    ("smjpeg", "mjpeg", "yuvj420p"),
    ("h261", "h261", "yuv420p"),
    ("dnxhd", "dnxhd", "yuv422p"),
    ("mpjpeg", "mjpeg", "yuvj420p"),
]


@pytest.mark.parametrize(("container", "encoder", "pixels"), PICTURES, ids=[kind[0] for kind in PICTURES])
def test_pictures(container: str, encoder: str, pixels: str):
    file = io.BytesIO()
    height, width = {"h261": (288, 352), "dnxhd": (1080, 1920)}.get(container, (48, 64))
    options = {"b": "36M"} if encoder == "dnxhd" else {}
    try:
        muxer = av.open(file, "w", format=container)
    except ValueError:
        pytest.skip("this FFmpeg cannot write it")
    with muxer:
        stream = muxer.add_stream(encoder, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, pixels
        for image in numbered(5, height, width):
            muxer.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        muxer.mux(stream.encode(None))
    clip = read_clip(file.getvalue(), times=[0.0, 0.1])
    assert clip.frames is not None and tuple(clip.frames.shape[2:]) == (height, width)
    assert indices(clip.frames)[0] == 0


SOUNDS = [("voc", "pcm_u8"), ("wtv", "mp2"), ("mmf", "adpcm_yamaha"), ("ircam", "pcm_s16le"), ("sox", "pcm_s32le")]
SOUNDS += [("oma", "atrac3p"), ("mlp", "mlp"), ("ast", "pcm_s16be_planar"), ("adx", "adpcm_adx")]
SOUNDS += [("latm", "aac"), ("spdif", "ac3")]


@pytest.mark.parametrize(("container", "encoder"), SOUNDS, ids=[kind[0] for kind in SOUNDS])
def test_sounds(container: str, encoder: str):
    file, rate = io.BytesIO(), {"ast": 32000, "spdif": 48000, "mmf": 8000, "voc": 8000}.get(container, 44100)
    try:
        av.Codec(encoder, "w")
        muxer = av.open(file, "w", format=container)
    except ValueError:
        pytest.skip("this FFmpeg cannot write it")
    with muxer:
        stream = muxer.add_stream(encoder, rate=rate)
        stream.codec_context.layout = "stereo" if container in ("oma", "mlp", "latm", "spdif", "ast") else "mono"
        stream.codec_context.open(strict=False)
        context = stream.codec_context
        fits = av.AudioResampler(context.format, context.layout, rate, frame_size=context.frame_size or None)
        frame = av.AudioFrame.from_ndarray(tone(1.0, rate)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        for piece in [*fits.resample(frame), *fits.resample(None)]:
            muxer.mux(stream.encode(piece))
        muxer.mux(stream.encode(None))
    clip = read_clip(file.getvalue(), video=False)
    assert clip.waveform is not None and 0.9 < len(clip.waveform) / 16000 < 1.2
    middle = clip.waveform[3000:12000].numpy()
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert abs(float(spectrum.argmax()) * 16000 / len(middle) - 440) < 4


@pytest.mark.parametrize("kind", ["PPM", "TGA", "PCX", "SGI", "JPEG2000", "ICO", "XBM", "DDS"])
def test_stills(kind: str):
    file = io.BytesIO()
    picture = Image.new("1" if kind == "XBM" else "RGB", (64, 48), 1 if kind == "XBM" else (200, 60, 60))
    picture.save(file, kind, **({"sizes": [(64, 48)], "bitmap_format": "bmp"} if kind == "ICO" else {}))
    if kind == "TGA":  # knows itself by nothing but its name
        with pytest.raises(MediaError, match="not_media"):
            read_clip(file.getvalue(), times=[0.0])
        return
    clip = read_clip(file.getvalue(), times=[0.0])
    assert clip.frames is not None and tuple(clip.frames.shape[1:]) == (3, 48, 64)
    expected = (255, 255, 255) if kind == "XBM" else (200, 60, 60)
    seen = clip.frames[0, :, 24, 32].numpy().astype(int)
    assert kind == "XBM" or np.abs(seen - expected).max() < 12


HOSTILE = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:5,\n{target}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{target}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
    "<AdaptationSet "
    'mimeType="video/mp4"><Representation id="0"><BaseURL>{target}</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>",
    "imf": '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016">{target}'
    "</CompositionPlaylist>",
    "vobsub": "# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:00:000, filepos: 000000000\n",
    "mlv": "MLVI4\0\0\0v2.0\0" + "\0" * 64,
    "svg": '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="{target}"/></svg>',
    "rtsp": "RTSP redirect\r\nRTSPtext\r\nrtsp://127.0.0.1:{port}/x\r\n",
    "sbg": "-SE\nNOW x\nx: 100+5/50\n",
    "ffmetadata": ";FFMETADATA1\ntitle=x\n",
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("scheme", ["file", "http"])
def test_what_points_elsewhere_is_refused_and_leads_nowhere(tmp_path: Path, kind: str, scheme: str):
    """A listener on the port that is named hears nothing, and the film beside it is not played."""
    other = movie(tmp_path / "other.mp4", count=3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        target = str(other) if scheme == "file" else f"http://127.0.0.1:{port}/other.mp4"
        heard: list[object] = []
        ear = threading.Thread(target=_listen, args=(server, heard))
        ear.start()
        path = tmp_path / "a.mp4"
        path.write_text(HOSTILE[kind].format(target=target, port=port))
        for read in (probe, lambda source: read_clip(source, frames=1)):
            with pytest.raises(MediaError) as caught:
                read(path)
            assert caught.value.reason in ("not_media", "truncated")
        ear.join()
    assert not heard


def _listen(server: socket.socket, heard: list[object]) -> None:
    try:
        heard.append(server.accept())
    except TimeoutError:
        return


def test_the_message_says_what_to_do(tmp_path: Path):
    path = tmp_path / "a.mp4"
    path.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    with pytest.raises(MediaError, match=r"not one of the allowed formats .*convert it"):
        probe(path)
