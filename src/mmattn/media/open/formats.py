"""FFmpeg's demuxers that may read untrusted bytes.

Allowed: those that recognise a file by its content, read only that file, and give video or audio.

Excluded: what opens other files, addresses or devices (hls, dash, imf, concat, image2, sdp, rtsp, rtp, sap,
webm_dash_manifest, vobsub, mlv, lavfi, x11grab, v4l2, alsa, ...); raw samples and others that accept any bytes
(s16le, mulaw, g722, rawvideo, ...); text, scripts and text art (srt, ass, webvtt, ffmetadata, sbg, tty, xbin, svg_pipe,
...), which are not recordings.
"""

from __future__ import annotations

_CONTAINERS = "mov matroska mpegts mpeg avi flv asf ogg rm mxf gxf nut ivf dv"
_MORE_CONTAINERS = (
    "wtv yuv4mpegpipe swf nsv nuv pva ty mxg dhav lxf vivo ivr smjpeg mpjpeg flic anm film_cpk roq smk bink ipmovie "
    "4xm wc3movie vmd thp xmv moflex usm ea siff wsvqa cine ser cdxl filmstrip fits r3d pmp ifv hxvs"
)
_RAW_VIDEO = (
    "mpegvideo h264 hevc obu m4v mjpeg vvc av1 h261 h263 dirac vc1 vc1test dnxhd cavsvideo avs2 avs3 evc apv "
    "mjpeg_2000 ipu"
)
_AUDIO = "wav w64 aiff au caf mp3 flac aac ac3 eac3 dts truehd amr ape wv tta mpc mpc8"
_MORE_AUDIO = (
    "voc mmf ircam sox nistsphere avr pvf hcom wve wsaud iff epaf qcp dss dsf wsd tak shn osq bonk rka wavarc qoa "
    "oma aea vqf mlp loas dtshd ac4 lc3 codec2 xwma adx ast brstm bfstm hca vag apc spdif"
)
_STILLS = "gif apng jpeg_pipe png_pipe webp_pipe bmp_pipe tiff_pipe"
_MORE_STILLS = (
    "jpegxl_pipe jpegxl_anim jpegls_pipe j2k_pipe jpegxs_pipe qoi_pipe ico psd_pipe dds_pipe exr_pipe hdr_pipe "
    "dpx_pipe pcx_pipe sgi_pipe sunrast_pipe xwd_pipe xbm_pipe xpm_pipe pam_pipe pbm_pipe pgm_pipe pgmyuv_pipe "
    "ppm_pipe pfm_pipe phm_pipe pgx_pipe"
)
_GROUPS = (_CONTAINERS, _MORE_CONTAINERS, _RAW_VIDEO, _AUDIO, _MORE_AUDIO, _STILLS, _MORE_STILLS)

FORMATS = ",".join(name for group in _GROUPS for name in group.split())
