"""Record two tones with a pause between them, ask what is heard, and save it; then send what is no recording."""

import array
import io
import math
import wave

from blocks_worker import TaskClient, TaskFailedError, file_part

RATE = 8000


def tone(seconds, loud):
    return array.array("h", (int(loud * math.sin(at / 3)) for at in range(int(RATE * seconds))))


def recording():
    """Return a WAV of one and a half seconds of sound, two of nothing, and a second of a quieter sound."""
    memory = io.BytesIO()
    with wave.open(memory, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((tone(1.5, 20000) + tone(2, 0) + tone(1, 2000)).tobytes())
    return memory.getvalue()


with TaskClient.create("free") as client:
    part = file_part(recording(), file_name="tones.wav", content_type="audio/wav")
    with client.send_message("media_summary", [part]) as session:
        for event in session:
            if event.message:
                print("status:", event.message)
        for path in session.save_artifacts("summaries"):
            print(f"saved {path}:", path.read_text(), sep="\n")
    for name, kind in (("song.mid", "audio/midi"), ("torn.wav", "audio/wav")):
        try:
            client.run("media_summary", [file_part(recording()[:20], file_name=name, content_type=kind)])
        except TaskFailedError as error:
            print("refused:", error.event.error)
