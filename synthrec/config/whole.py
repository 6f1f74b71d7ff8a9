"""All sections together."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from synthrec.config.base import Settings
from synthrec.config.curate import Curate
from synthrec.config.evaluate import Evaluate
from synthrec.config.package import Package
from synthrec.config.privacy import Privacy
from synthrec.config.recommend import Recommend
from synthrec.config.serve import Serve
from synthrec.config.sources import Prepare, Sources
from synthrec.config.storage import Storage
from synthrec.config.synthesize import Synthesize
from synthrec.config.train import Train


class Config(Settings):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = Field(
        description="of the run, in its report"
    )
    run_dir: str = Field(description="where every stage publishes; a path or a URI")
    seed: Annotated[int, Field(ge=0)] = Field(13, description="of every random choice")
    sources: Sources
    privacy: Privacy = Privacy()
    storage: Storage = Storage()
    prepare: Prepare = Prepare()
    synthesize: Synthesize = Synthesize()
    curate: Curate = Curate()
    train: Train = Train()
    recommend: Recommend = Recommend()
    evaluate: Evaluate = Evaluate()
    package: Package = Package()
    serve: Serve = Serve()
