"""How fast and how large: npformer beside PyTorch and beside the bare matrix products, measured by `npformer bench`.

Each section is a table: one layer or a stack (`layers`), its peak memory (`memory`), attention against length
(`lengths`), recomputation (`checkpoint`), and how long the import takes (`import`).
"""
