"""speechscale: how far must I scale a speech language model, and what will I get?"""

__version__ = "0.1.0"
