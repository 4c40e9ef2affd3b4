"""What to do about each image."""

from stackctl.errors import NotFoundError
from stackctl.orchestrator.model.mounts import ImageMount
from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.planning.draft import Work, image_reference
from stackctl.orchestrator.planning.plan import BuildImage, PullImage
from stackctl.units import format_duration, parse_duration


def plan_images(work: Work) -> None:
    """Add the pulls and builds that the selected services need."""
    # Those that build come first: others may use the image they make.
    for service in sorted(work.services(), key=lambda item: item.build is None):
        if service.provider is not None:
            continue
        _plan_service_image(work, service)
        for mount in service.volumes:
            if isinstance(mount, ImageMount) and work.observed.image(mount.source) is None:
                _pull(work, mount.source, service, "", "not there")
        for hook in service.pre_start:
            if hook.image and work.observed.image(hook.image) is None:
                _pull(work, hook.image, service, "", "not there")
    _order_builds(work)


def _plan_service_image(work: Work, service: Service) -> None:
    reference = image_reference(work.stack, service)
    if reference in work.images:
        return
    present = work.observed.image(reference)
    known = present.id if present else ""
    policy = work.options.pull or service.pull_policy or "missing"
    if service.build is not None and policy != "always":
        _plan_build(work, service, reference, known, policy)
    elif service.build is not None and not work.options.no_build:
        _build(work, service, reference, known, "pull policy is always", pull=True)
    elif policy == "always":
        _pull(work, reference, service, known, "pull policy is always")
    elif known and (stale := _stale(work, service, reference, policy)):
        _pull(work, reference, service, known, stale, timed=True)
    elif not known:
        if policy == "never":
            raise NotFoundError(
                f"service {service.name!r}: image {reference} is not here, and its pull policy is never"
            )
        if not service.image:
            raise NotFoundError(f"service {service.name!r} has neither an image nor a build")
        _pull(work, reference, service, "", "not there")


def _plan_build(work: Work, service: Service, reference: str, known: str, policy: str) -> None:
    options = work.options
    wanted = options.build or policy == "build"
    if options.no_build:
        if not known and service.image and policy != "never":
            _pull(work, reference, service, "", "not there, and building is off")
        elif not known:
            raise NotFoundError(
                f"service {service.name!r}: image {reference} is not here, and building is off",
                hint="Leave --no-build out, or run stackctl build.",
            )
    elif not known:
        _build(work, service, reference, "", "not there")
    elif wanted:
        _build(work, service, reference, known, "asked for")


def _build(
    work: Work, service: Service, reference: str, known: str, reason: str, *, pull: bool = False
) -> None:
    action = BuildImage(
        name=reference,
        service=service.name,
        present=known,
        pull=pull or bool(service.build and service.build.pull),
        no_cache=work.options.build_no_cache or bool(service.build and service.build.no_cache),
    )
    _remember(work, reference, work.draft.add(action, reason), known)


def _stale(work: Work, service: Service, reference: str, policy: str) -> str:
    """Return why an image is due for a pull by a timed policy, "" where it is not."""
    limit = refresh_seconds(policy, service.pull_refresh_after)
    age = work.observed.ages.get(reference)
    if limit is None or age is None or age < limit:
        return ""
    return f"pull policy is {policy}, and it was last pulled {format_duration(round(age))} ago"


def refresh_seconds(policy: str, refresh_after: str) -> float | None:
    """Return after how many seconds a pull policy has an image pulled again; None for those without a time."""
    match policy:
        case "daily":
            return 24 * 3600.0
        case "weekly":
            return 7 * 24 * 3600.0
        case "refresh":
            return parse_duration(refresh_after) if refresh_after else None
    text = policy.removeprefix("every_")
    return parse_duration(text) if text != policy else None


def _pull(
    work: Work,
    reference: str,
    service: Service,
    known: str,
    reason: str,
    *,
    timed: bool = False,
) -> None:
    if reference in work.images:
        return
    action = PullImage(
        name=reference,
        service=service.name,
        platform=service.platform,
        present=known,
        timed=timed,
    )
    _remember(work, reference, work.draft.add(action, reason), known)


def _remember(work: Work, reference: str, key: str, known: str) -> None:
    work.images[reference] = key
    if known:
        work.uncertain[reference] = key


def _order_builds(work: Work) -> None:
    """Let a build come after those whose images it takes as an additional context (``service:name``)."""
    for service in work.services():
        key = work.images.get(image_reference(work.stack, service))
        if key is None or service.build is None:
            continue
        for source in service.build.additional_contexts.values():
            other = work.stack.services.get(source.removeprefix("service:"))
            if source.startswith("service:") and other is not None:
                needed = work.images.get(image_reference(work.stack, other))
                if needed:
                    work.draft.follow(key, [needed])
