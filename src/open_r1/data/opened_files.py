"""Opens many files at once, and tells what is wrong with all of them. (torch-free)"""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from open_r1.errors import DataError

_Place = TypeVar("_Place")
_Content = TypeVar("_Content")


def opened_all(
    places: Collection[_Place], opened: Callable[[_Place], _Content], workers: int
) -> dict[_Place, _Content]:
    """Place -> what `opened` makes of it, `workers` at a time. Raises DataError with the problems of all places.

    >>> opened_all(["a", "b"], str.upper, workers=2)
    {'a': 'A', 'b': 'B'}
    """

    def attempt(place: _Place) -> _Content | DataError:
        try:
            return opened(place)
        except DataError as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        results = dict(zip(places, pool.map(attempt, places), strict=True))
    if errors := [result for result in results.values() if isinstance(result, DataError)]:
        raise DataError([problem for error in errors for problem in error.problems])
    return results
