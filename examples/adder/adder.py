"""JSON in, JSON out; what cannot be added is the sender's mistake."""

from blocks_worker import InputError


def handler(task):
    asked = task.json()
    try:
        return {"sum": asked["a"] + asked["b"]}
    except (KeyError, TypeError) as error:
        raise InputError('send two numbers, such as {"a": 1, "b": 2}') from error
