// Runs on the audio thread: passes the microphone's first channel on, 4,096 samples at a time.

class Tap extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(4096);
    this.filled = 0;
  }

  process([channels]) {
    const samples = channels[0];
    if (samples) {
      this.block.set(samples, this.filled); // 128 at a time, so it fits
      this.filled += samples.length;
      if (this.filled >= this.block.length) {
        this.port.postMessage(this.block.slice());
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("tap", Tap);
