"""Models of the master database: organizations, servers, staff, templates, audit trail and more."""

from .organization import KNOWN_AS as KNOWN_AS
from .organization import AuditEntry as AuditEntry
from .organization import BackupRun as BackupRun
from .organization import Erasure as Erasure
from .organization import FormerName as FormerName
from .organization import Installation as Installation
from .organization import Organization as Organization
from .organization import OrganizationQuerySet as OrganizationQuerySet
from .organization import Restore as Restore
from .organization import SchemaVersion as SchemaVersion
from .organization import Server as Server
from .organization import SpareDatabase as SpareDatabase
from .organization import Staff as Staff
from .organization import StoredAnswer as StoredAnswer
from .organization import Template as Template
from .organization import ThrottleCounter as ThrottleCounter
from .organization import UncopyableSchema as UncopyableSchema
from .organization import known_as_parameters as known_as_parameters
from .organization import random_key as random_key
