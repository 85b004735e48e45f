"""The trained model in the formats of other programs, and how far each of them is from the pipeline."""

import stages.learning.runtime  # noqa: F401 - before any module here loads TensorFlow, which is quiet then
