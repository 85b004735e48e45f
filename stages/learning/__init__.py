"""What the learning stages share: network, data set, augmentation, metrics, checkpoint, model file.

Only this package, stages/train.py and stages/evaluate.py import Keras: its import takes 4 to 10 seconds.
"""
