// The spectrogram on a canvas. Colours are matplotlib's magma at nine places: equal steps of lightness, so it reads the
// same to every eye and in black and white.

const MAGMA = ["#000004", "#1c1044", "#4f127b", "#812581", "#b5367a", "#e55064", "#fb8761", "#fec287", "#fcfdbf"].map(
  (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)),
);

const SHADES = Array.from({ length: 256 }, (_, level) => {
  const place = (level / 255) * (MAGMA.length - 1);
  const below = Math.min(Math.floor(place), MAGMA.length - 2);
  return [0, 1, 2].map((i) => MAGMA[below][i] + (place - below) * (MAGMA[below + 1][i] - MAGMA[below][i]));
});

export function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

/** levels: (bands, columns) bytes, lowest band first. attention: the same, or null; what it leaves out is dimmed. */
export function draw(canvas, spectrogram, attention = null) {
  const { bands, columns } = spectrogram;
  const levels = bytesOf(spectrogram.levels);
  const seen = attention && bytesOf(attention.levels);
  const image = new ImageData(columns, bands);
  for (let y = 0; y < bands; y++) {
    for (let x = 0; x < columns; x++) {
      const shade = SHADES[levels[(bands - 1 - y) * columns + x]];
      let light = 1;
      if (seen) {
        light = 0.35 + 0.65 * Math.sqrt(seen[(bands - 1 - y) * columns + x] / 255);
      }
      for (let i = 0; i < 3; i++) image.data[4 * (y * columns + x) + i] = shade[i] * light;
      image.data[4 * (y * columns + x) + 3] = 255;
    }
  }
  const small = new OffscreenCanvas(columns, bands);
  small.getContext("2d").putImageData(image, 0, 0);
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * scale);
  canvas.height = Math.round(canvas.clientHeight * scale);
  canvas.getContext("2d").drawImage(small, 0, 0, canvas.width, canvas.height);
}

/** Where a frequency lies on the mel axis: 0 at the bottom, 1 at the top. */
export function placeOf(hertz, { lowest_hz, highest_hz }) {
  const mel = (f) => Math.log1p(f / 700);
  return (mel(hertz) - mel(lowest_hz)) / (mel(highest_hz) - mel(lowest_hz));
}
