"""Writes what TensorBoard makes of a few events into fixtures/events.tfevents."""
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


def summary(wall_time, step, scalars):
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars]
    return Event(wall_time=wall_time, step=step, summary=Summary(value=values))


events = [
    Event(wall_time=1.5, file_version="brain.Event:2"),
    Event(wall_time=2.5, step=200, session_log=SessionLog(status=SessionLog.START)),
    summary(3.5, 300, [("loss/step", 0.75), ("learning_rate", 0.1), ("gradient_norm", 2.5)]),
    summary(
        4.5,
        301,
        [
            ("loss/train", 0.5),
            ("loss/test", 0.625),
            ("accuracy/train", 0.875),
            ("accuracy/test", 0.8),
            ("images_per_s", 123456.0),
        ],
    ),
]
with (Path(__file__).resolve().parent / "fixtures/events.tfevents").open("wb") as file:
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString())
    writer.flush()
