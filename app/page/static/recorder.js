// The microphone as a WAV file. MediaRecorder would give WebM, which needs ffmpeg on the other side.

export class Recorder {
  /** Resolves when sound arrives; rejects with the browser's error where it may not. */
  async start(onLevel) {
    if (!navigator.mediaDevices) throw new DOMException("insecure", "SecurityError");
    // The filters meant for calls change the very sound that is to be judged.
    const wish = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true };
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: wish });
    try {
      this.context = new AudioContext();
      await this.context.audioWorklet.addModule("/static/recorder-worklet.js");
      this.blocks = [];
      const source = this.context.createMediaStreamSource(this.stream);
      const tap = new AudioWorkletNode(this.context, "tap", { numberOfOutputs: 0 });
      tap.port.onmessage = ({ data }) => {
        this.blocks.push(data);
        onLevel(data.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0));
      };
      source.connect(tap);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  get seconds() {
    return (this.blocks.length * 4096) / this.context.sampleRate;
  }

  close() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.context?.close();
  }

  /** Ends the recording: a Blob of mono 16-bit PCM. */
  stop() {
    const rate = this.context.sampleRate;
    this.close();
    return new Blob([wavHeader(this.blocks.length * 4096, rate), ...this.blocks.map(toInt16)], { type: "audio/wav" });
  }
}

function toInt16(block) {
  return Int16Array.from(block, (sample) => Math.max(-32768, Math.min(32767, Math.round(sample * 32767))));
}

function wavHeader(samples, rate) {
  const view = new DataView(new ArrayBuffer(44));
  const text = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // mono
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * samples, true);
  return view.buffer;
}
