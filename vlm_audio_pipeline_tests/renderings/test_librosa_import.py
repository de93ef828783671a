"""Functions of librosa are compiled when they are called; compiled functions give the numbers of librosa."""

import numba
import numpy as np

from vlm_audio_pipeline.renderings.librosa_import import _postpone, import_librosa


def test_a_function_of_librosa_is_compiled_at_its_first_call_and_only_once():
    compiled = []

    def decorator(signature, nopython):
        def compile_function(function):
            compiled.append((function.__name__, signature, nopython))
            return lambda number: function(number) + 1

        return compile_function

    def double(number):
        """Return twice the number."""
        return 2 * number

    double.__module__ = "librosa.util.utils"
    postponed = _postpone(decorator)("int64(int64)", nopython=True)(double)
    assert compiled == [] and postponed.__doc__ == "Return twice the number."
    assert (postponed(3), postponed(4)) == (7, 9)
    assert compiled == [("double", "int64(int64)", True)]


def test_functions_of_other_packages_are_compiled_at_once():
    def double(number):
        return 2 * number

    assert _postpone(lambda: lambda function: "compiled")()(double) == "compiled"


def test_numba_is_unchanged_and_functions_of_librosa_work_after_the_import():
    before = numba.guvectorize, numba.vectorize
    librosa = import_librosa()
    assert (numba.guvectorize, numba.vectorize) == before
    # -1, 1, 1, -1: the sign changes at the samples 1 and 3
    crossings = librosa.zero_crossings(np.array([-1.0, 1.0, 1.0, -1.0]), pad=False)
    assert crossings.tolist() == [False, True, False, True]
