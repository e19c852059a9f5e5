"""Models of the master database: organizations, servers, staff, templates, audit trail and more."""

from .backups import BackupRun as BackupRun
from .backups import Erasure as Erasure
from .backups import Restore as Restore
from .installation import Installation as Installation
from .installation import Server as Server
from .installation import Staff as Staff
from .installation import random_key as random_key
from .organization import IS_KNOWN as IS_KNOWN
from .organization import KNOWN_AS as KNOWN_AS
from .organization import FormerName as FormerName
from .organization import Organization as Organization
from .organization import OrganizationQuerySet as OrganizationQuerySet
from .organization import known_as_parameters as known_as_parameters
from .requests import AuditEntry as AuditEntry
from .requests import StoredAnswer as StoredAnswer
from .requests import ThrottleCounter as ThrottleCounter
from .templates import SchemaVersion as SchemaVersion
from .templates import SpareDatabase as SpareDatabase
from .templates import Template as Template
from .templates import UncopyableSchema as UncopyableSchema
