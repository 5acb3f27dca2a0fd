"""Container names: their grammar, and random ones for containers that get none. Pure but for the dice."""

import random
import re
from collections.abc import Callable

from minid.errors import InvalidParameter

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")

_ADJECTIVES = (
    "able agile airy amber ample arctic avid azure balmy bold brave breezy bright brisk bronze calm "
    "candid careful cheery chipper civil clever coastal copper coral cosmic cosy crisp curious daring "
    "deft dapper dreamy eager early earnest easy elated elegant even fabled fair famous fancy fearless "
    "fleet floral fluent fond frank free fresh frosty gallant gentle gifted glad gleaming golden graceful "
    "grand great green happy hardy hazel heroic honest hopeful humble ideal jolly jovial joyful keen kind "
    "lively logical loyal lucid lucky lunar magic mellow merry mighty mild modest neat nimble noble novel "
    "olive open patient peaceful placid playful polite proud quick quiet radiant rapid ready robust rosy "
    "royal rustic scarlet serene sharp shiny silent silver sincere sleek smart snowy solar solid spirited "
    "spry stable steady stellar sturdy subtle sunny sure swift tender thrifty tidy tranquil trusty upbeat "
    "urban useful valiant velvet verdant vibrant violet vital vivid warm watchful wise witty worthy zesty"
)
_SURNAMES = (
    "abel agnesi allen anning archimedes aryabhata avogadro babbage banneker bardeen bassi bell bernoulli "
    "bhabha bohr boltzmann boole born bose boyle brahe brahmagupta brattain cannon cantor carson cauchy "
    "cavendish cerf chandrasekhar chatelet cherenkov church clarke colden copernicus cori coulomb cray "
    "curie dalton darwin davy descartes dijkstra dirac easley eckert edison einstein elion engelbart "
    "euclid euler faraday fermat fermi feynman fibonacci fourier franklin galileo galois gauss germain "
    "gilbreth goldberg goodall hamilton hawking heisenberg herschel hertz hilbert hopper hubble huygens "
    "hypatia jackson jennings johnson joliot joule kepler khayyam khorana kilby knuth kovalevskaya "
    "lagrange lamarr lamport laplace leavitt leibniz lichterman liskov lovelace lumiere maxwell mayer "
    "mccarthy mcclintock meitner mendel mendeleev mirzakhani moore morse murdock napier nash newton "
    "nightingale nobel noether pascal pasteur pauling payne perlman planck poincare ptolemy raman "
    "ramanujan ride ritchie robinson rosalind rubin rutherford sagan salk sanderson shannon shockley "
    "snyder stonebraker swartz taussig tesla tharp thompson torvalds turing vaughan villani volhard volta "
    "wescoff wiles wilson wing wozniak wright wu yalow yonath"
)
ADJECTIVES: tuple[str, ...] = tuple(_ADJECTIVES.split())
SURNAMES: tuple[str, ...] = tuple(_SURNAMES.split())


def check(name: str) -> str:
    """``name`` without the slash it may begin with. Raises InvalidParameter with Docker's text."""
    plain = name.removeprefix("/")
    if not NAME.fullmatch(plain):
        raise InvalidParameter(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return plain


def generate(taken: Callable[[str], bool], dice: random.Random | None = None) -> str:
    """``adjective_surname`` that is not taken; with more and more digits behind it when that is hard to
    find.
    """
    roll = dice or random
    digits = ""
    while True:
        name = f"{roll.choice(ADJECTIVES)}_{roll.choice(SURNAMES)}{digits}"
        if not taken(name):
            return name
        digits += str(roll.randrange(10))
