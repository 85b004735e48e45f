"""What a user would run instead of the data stages, one function each: `python benchmarks/peers.py NAME FILE...`.

None of them keeps anything, and none checks what it reads.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

RATE_HZ = 16000


def bare(files: Sequence[str]) -> None:
    """Decode with libsndfile, and that is all: what no data path can do without."""
    import soundfile

    for path in files:
        soundfile.read(path, dtype="float32")


def published(files: Sequence[str]) -> None:
    """The 2017 article's path: librosa.load with kaiser_fast, melspectrogram, power_to_db."""
    _librosa(files, "kaiser_fast")


def modern(files: Sequence[str]) -> None:
    """The same calls with librosa's present default, soxr_hq."""
    _librosa(files, "soxr_hq")


def _librosa(files: Sequence[str], res_type: str) -> None:
    import librosa

    for path in files:
        samples, rate = librosa.load(path, sr=RATE_HZ, res_type=res_type)
        power = librosa.feature.melspectrogram(y=samples, sr=rate, n_fft=1024, hop_length=160, n_mels=192)
        librosa.power_to_db(power)


def kaldi(files: Sequence[str]) -> None:
    """soundfile, soxr, and kaldi-native-fbank with its usual 80 bands every 10 ms."""
    import soundfile
    import soxr

    for path in files:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        _fbank(soxr.resample(samples.mean(axis=1), rate, RATE_HZ))


def ffmpeg(files: Sequence[str]) -> None:
    """A process of ffmpeg for each file, which decodes, mixes and resamples; then kaldi-native-fbank."""
    import imageio_ffmpeg
    import numpy as np

    binary = imageio_ffmpeg.get_ffmpeg_exe()
    for path in files:
        command = [binary, "-v", "error", "-nostdin", "-threads", "1", "-i", path, "-ac", "1", "-ar", str(RATE_HZ)]
        out = subprocess.run([*command, "-f", "s16le", "-"], stdout=subprocess.PIPE, check=True).stdout
        _fbank(np.frombuffer(out, "<i2").astype(np.float32) / 32768)


def _fbank(samples) -> None:  # type: ignore[no-untyped-def] # numpy is imported by those who need it
    import kaldi_native_fbank

    options = kaldi_native_fbank.FbankOptions()
    options.mel_opts.num_bins = 80
    options.frame_opts.dither = 0
    extractor = kaldi_native_fbank.OnlineFbank(options)
    extractor.accept_waveform(RATE_HZ, samples)
    extractor.input_finished()
    for frame in range(extractor.num_frames_ready):
        extractor.get_frame(frame)


def functions(files: Sequence[str]) -> None:
    """Our own four functions in one process, with nothing written: what the storage of the stages adds to."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from stages.decode import decode_file
    from stages.logmel import log_mel
    from stages.pipeline.params import load_params
    from stages.resample import resample
    from stages.resize import resize_to_image

    params = load_params()
    rate_hz = params.resample.rate_hz
    for path in files:
        samples, own_hz = decode_file(path, params.decode)
        bands = log_mel(resample(samples, own_hz, params.resample), rate_hz, params.logmel)
        resize_to_image(bands, rate_hz / params.logmel.hop_length, params.resize)


PEERS = {f.__name__: f for f in (bare, functions, modern, published, kaldi, ffmpeg)}

if __name__ == "__main__":
    PEERS[sys.argv[1]](sys.argv[2:])
