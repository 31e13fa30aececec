"""Texts for terminals that lack some characters: each of these is spelled with those that there are."""

from __future__ import annotations

import unicodedata

SPELLINGS = str.maketrans(
    {
        "→": "->", "←": "<-", "↔": "<->", "⇒": "=>", "·": "*", "⋅": "*", "×": "x", "⊙": "*", "÷": "/", "∕": "/",
        "−": "-", "–": "-", "—": "-", "‑": "-", "…": "...", "±": "+-", "≈": "~", "≠": "!=", "≤": "<=", "≥": ">=",
        "√": "sqrt", "∞": "inf", "∫": "integral", "∂": "d", "∇": "grad", "∑": "sum", "∏": "product", "∈": "in",
        "ᵀ": "^T", "⊤": "^T", "⁻": "^-", "⁺": "^+", "⁰": "^0", "¹": "^1", "²": "^2", "³": "^3", "⁴": "^4", "ⁿ": "^n",
        "₀": "_0", "₁": "_1", "₂": "_2", "₃": "_3", "₊": "_+", "₋": "_-", "ᵢ": "_i", "ⱼ": "_j", "ₖ": "_k", "ₙ": "_n",
        "½": "1/2", "¼": "1/4", "¾": "3/4", "°": " degrees", "‘": "'", "’": "'", "“": '"', "”": '"', "•": "*",
        "Σ": "sum", "Π": "product", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Φ": "Phi", "Ψ": "Psi",
        "Ω": "Omega", "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "eps", "ζ": "zeta", "η": "eta",
        "θ": "theta", "κ": "kappa", "λ": "lambda", "μ": "mu", "µ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho",
        "σ": "sigma", "τ": "tau", "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega",
    }
)  # fmt: skip


def spelled(text: str, encoding: str) -> str:
    """Return a text in which what an encoding lacks is spelled: by a table, without its accents, or by its name.

    Examples
    --------
    >>> spelled("∂L/∂x = Σ g·√d·wᵀ", "ascii"), spelled("é", "ascii"), spelled("é", "latin-1")
    ('dL/dx = sum g*sqrt d*w^T', 'e', 'é')
    """
    spellings = [each if _has(encoding, each) else _spell(each, encoding) for each in text]
    gaps = [
        " " if spelling != each and spelling.isalpha() and len(spelling) > 1 and following.isalnum() else ""
        for spelling, each, following in zip(spellings, text, text[1:] + " ", strict=False)
    ]
    return "".join(spelling + gap for spelling, gap in zip(spellings, gaps, strict=True))


def _spell(character: str, encoding: str) -> str:
    if unicodedata.combining(character):
        return ""
    plain = unicodedata.normalize("NFKD", character)
    without_accents = "".join(each for each in plain if not unicodedata.combining(each))
    for attempt in (character.translate(SPELLINGS), without_accents, without_accents.translate(SPELLINGS)):
        if attempt and _has(encoding, attempt):
            return attempt
    name = unicodedata.name(character, "")
    return f"[{name.lower()}]" if name else character.encode("ascii", "backslashreplace").decode("ascii")


def _has(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
